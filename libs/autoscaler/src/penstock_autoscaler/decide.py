"""How many workers an endpoint needs.

Theory of operation. `queue_delay` predicts with the fluid model of `supply.py`: requests that wait
now, and those that arrive meanwhile (`arrivals.py`), leave the queue in order as workers free
slots: at once those that run, later those that start, each when past starts of this endpoint let
expect (`starts.py`).

Rule 1 (up): a worker started now would be ready at τ, the usual start. It is needed if the last of
       those that wait now, or a request that arrives at τ, would still be waiting `value` seconds
       after τ. So a start that would come after the others have drained the queue is not made, and
       one that is needed is made at once, not when somebody has waited `value` seconds.
Rule 2 (how many): the fewest workers with which neither does, and which can serve the measured
       rate for ever.
Rule 3 (unknown): while no service time is measured, the first waiting request starts one worker,
       and each `value` seconds that the oldest one waits adds one, as long as more wait than the
       slots of those workers can take at once.
Rule 4 (wrong): the oldest request has waited longer than `value` and than a start takes, and
       nothing starts: the prediction was wrong, add one.
Rule 5 (down): what is needed, with some headroom, is what could serve the measured rate with what
       is in flight. `desired` says so, and who is idle for the timeout may go (`idle.py`). `kept` is
       the most that was needed at any time within the last idle timeout: beyond it a worker may go
       although the others' balance gives it a request now and then. Nobody goes during a burst.
Rule 6 (zero): without a worker only a request that waits starts one.
Rule 7 (buffer): `scaling.buffer` workers stand above what is needed, while anything is.

`request_count` is `ceil((waiting + in flight) / value)`. All are held within the limits, of which
the lower is `workers.min` or what the schedule raises it to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from penstock_autoscaler.arrivals import Arrivals, Rate
from penstock_autoscaler.load import Load
from penstock_autoscaler.starts import StartTimes
from penstock_autoscaler.supply import Supply
from penstock_common.specs import EndpointSpec

#: Share of the service capacity that the measured rate may use before a worker counts as surplus.
KEEP_UTILIZATION_RATIO: Final = 0.8
#: A worker that runs but does not take requests yet is thought to do so after this.
_ACCEPTS_SOON_S: Final = 1.0
_SHORTEST_SERVICE_S: Final = 1e-6
#: The routers' mean service time is of their last ten or so requests; it is smoothed over so many
#: seconds, lest chance start workers.
_SERVICE_SMOOTH_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What one decision leaves for the next. Immutable; `ScaleMemory()` at first."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    starts: StartTimes = field(default_factory=StartTimes)
    #: smoothed service time and when it was so; None = not measured yet
    service: tuple[float, float] | None = None
    #: rule 3: workers wanted since requests began to wait, and how often the oldest passed `value`
    wanted: int = 0
    passes: int = 0
    #: rule 5: (when, needed), both ascending in time and descending in number
    needs: tuple[tuple[float, int], ...] = ()
    #: monotonic seconds since when `needs` are watched; None = not yet
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and why; what it was decided on stands beside it."""

    #: in the limits; below the number there are, how many of them may go once they are idle
    desired: int
    #: the most that was needed within the last idle timeout; None = not watched for so long
    kept: int | None
    #: one sentence for a person
    why: str
    #: lower limit at this instant
    least: int
    rate: Rate
    #: usual seconds of a start
    start_s: float
    #: predicted wait of the last request, without another start; None = none predicted
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Need:
    """What the load asks for, before limits."""

    #: workers to run or start now
    wanted: int
    #: fewest that the load needs; below `wanted` while more are there
    needed: int
    #: what the buffer stands above: the need of the steady load, whatever is there
    base: int
    cause: str = ""
    wait_s: float | None = None


def decide_workers(
    spec: EndpointSpec, load: Load, memory: ScaleMemory, now: float, *, least: int | None = None
) -> tuple[Decision, ScaleMemory]:
    """Number of workers that one endpoint needs now.

    Args:
        spec: limits and policy of the endpoint.
        load: its queue and its workers.
        memory: what the last call gave (`ScaleMemory()` at first); never mutated.
        now: monotonic seconds; must not go back between calls.
        least: lower limit at this instant (`least_workers`); None = `workers.min`.

    Returns:
        (decision, memory): `decision.desired` lies in `least..workers.max`.
    """
    limits = spec.workers
    least = min(limits.min if least is None else least, limits.max)
    arrivals = memory.arrivals.count(load.arrivals, now)
    memory = replace(memory, arrivals=arrivals)
    rate = arrivals.rate(now, limits.idle_timeout_s)
    if spec.scaling.type == "request_count":
        n = math.ceil((load.waiting + load.in_flight) / spec.scaling.value)
        need = _Need(n, n, n, f"{spec.scaling.value:g} requests per worker")
    elif load.service_time_s is None:
        need, memory = _without_service_time(spec, load, memory)
    else:
        service_s = _smooth(memory.service, load.service_time_s, now)
        need = _predicted(spec, load, max(service_s, _SHORTEST_SERVICE_S), memory, rate)
        memory = replace(memory, service=(service_s, now), wanted=0, passes=0)
    if rate.burst and need.wanted < load.workers:
        need = replace(need, wanted=load.workers, needed=load.workers, cause="a burst arrives")
    need = _with_buffer(spec, need)
    desired = min(max(need.wanted, least), limits.max)
    cause = need.cause
    if desired > need.wanted:
        cause = f"workers.min is {least}"
        if least > limits.min:
            cause = f"the schedule asks for {least}"
    elif desired < need.wanted:
        cause = f"more are wanted, workers.max is {limits.max}"
    floor = min(max(need.needed, least), limits.max)
    kept, memory = _keep(memory, floor, limits.idle_timeout_s, now)
    return (
        Decision(
            desired,
            kept,
            _why(load, desired, cause),
            least,
            rate,
            memory.starts.whole_s,
            need.wait_s,
        ),
        memory,
    )


def _smooth(before: tuple[float, float] | None, measured_s: float, now: float) -> float:
    if before is None:
        return measured_s
    mean_s, at = before
    return mean_s + (1 - math.exp((at - now) / _SERVICE_SMOOTH_S)) * (measured_s - mean_s)


def _with_buffer(spec: EndpointSpec, need: _Need) -> _Need:
    buffer = spec.scaling.buffer_above(need.base)
    if not buffer or not need.base:
        return need
    total = need.base + buffer
    need = replace(need, needed=max(need.needed, total))
    if total <= need.wanted:
        return need
    return replace(need, wanted=total, cause=f"{buffer} above need as buffer")


def _keep(
    memory: ScaleMemory, needed: int, timeout_s: float, now: float
) -> tuple[int | None, ScaleMemory]:
    """The most needed within `timeout_s`, and the memory with this need (rule 5)."""
    since = now if memory.since is None else memory.since
    needs = [n for n in memory.needs if now - n[0] <= timeout_s]
    while needs and needs[-1][1] <= needed:
        needs.pop()
    needs.append((now, needed))
    memory = replace(memory, needs=tuple(needs), since=since)
    return (needs[0][1] if now - since >= timeout_s else None), memory


# ---- queue_delay without a measured service time (rule 3)


def _without_service_time(
    spec: EndpointSpec, load: Load, memory: ScaleMemory
) -> tuple[_Need, ScaleMemory]:
    slots = spec.workers.max_concurrency
    busy = math.ceil(load.in_flight / slots)
    if not load.waiting:
        # Those that start have been wanted by somebody who left: let them come and fall idle.
        return _Need(busy, busy, busy), replace(memory, wanted=0, passes=0)
    passes = int(load.oldest_wait_s / spec.scaling.value)
    wanted = max(memory.wanted, load.workers, 1) + max(0, passes - memory.passes)
    at_once = math.ceil((load.waiting + load.in_flight) / slots)
    wanted = max(min(wanted, at_once), load.workers, 1)
    wanted = min(wanted, spec.workers.max)  # so that a later, higher max does not jump
    return _Need(wanted, wanted, busy), replace(memory, wanted=wanted, passes=passes)


# ---- queue_delay, predicted (rules 1, 2, 4, 5, 6)


def _predicted(
    spec: EndpointSpec, load: Load, service_time_s: float, memory: ScaleMemory, rate: Rate
) -> _Need:
    slots, value_s = spec.workers.max_concurrency, spec.scaling.value
    start_s = memory.starts.whole_s
    waiting = max(0, load.waiting - load.free_slots)
    existing = load.workers
    if not existing and not load.waiting:
        return _Need(0, 0, 0)
    supply = Supply(
        slots,
        service_time_s,
        load.running,
        tuple(
            sorted(
                [_ACCEPTS_SOON_S] * load.unready
                + [memory.starts.ready_in_s(worker) for worker in load.starting]
            )
        ),
    )

    def last_leaves_at(n_new: int) -> float:
        more = supply.with_new(n_new, start_s) if n_new else supply
        queue_then = more.queue_at(start_s, waiting, rate.per_s)
        return max(more.left_at(0.0, waiting), more.left_at(start_s, queue_then))

    needed = max(
        math.ceil(rate.per_s * service_time_s / (slots * KEEP_UTILIZATION_RATIO)),
        math.ceil(load.in_flight / slots),
    )
    wait_s = last_leaves_at(0)
    if wait_s > start_s + value_s:
        stable = math.ceil(rate.per_s * service_time_s / slots)
        # With so many every one that waits at τ gets a slot at once.
        plenty = existing + 1 + math.ceil((waiting + rate.per_s * start_s) / slots)
        wanted = _fewest(
            lambda n: n >= stable and last_leaves_at(n - existing) <= start_s + value_s,
            existing + 1,
            min(max(plenty, stable), max(existing, spec.workers.max) + 1),
        )
        return _Need(wanted, wanted, needed, _delay_cause(wait_s, value_s), wait_s)
    overdue = load.oldest_wait_s > max(value_s, start_s)
    more_than_fit = load.waiting + load.in_flight > existing * slots
    if overdue and more_than_fit and not load.starting:
        cause = f"that is longer than a start takes ({start_s:.1f} s)"
        return _Need(existing + 1, existing + 1, needed, cause, wait_s)
    kept = min(existing, needed)
    if load.waiting:
        return _Need(existing, max(kept, 1), needed, wait_s=wait_s)
    return _Need(kept, kept, needed)


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int:
    """The lowest n in `low..high` that is enough; `high` when none is. `enough` is monotonic."""
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _delay_cause(wait_s: float, value_s: float) -> str:
    if math.isinf(wait_s):
        return ""
    return f"they would wait {wait_s:.1f} s, {value_s:g} s is wanted"


def _why(load: Load, desired: int, cause: str) -> str:
    parts = []
    if load.waiting:
        parts += [f"{load.waiting} waiting", f"oldest {load.oldest_wait_s:.1f} s"]
    if load.in_flight:
        parts.append(f"{load.in_flight} in flight")
    if not load.waiting and not load.in_flight:
        parts.append("no requests")
    parts.append(f"{load.running} running" if load.running else "none running")
    starting = load.workers - load.running
    if starting:
        parts.append(f"{starting} starting")
    return f"{load.workers} → {desired}: {', '.join(parts)}" + (f"; {cause}" if cause else "")
