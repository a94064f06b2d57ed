"""How many workers an endpoint needs.

Theory of operation. `queue_delay` predicts with a fluid model. A worker with S slots and a mean
service time T takes S requests the moment it is ready and S/T per second from then on. Requests
that wait now, and those that arrive meanwhile, leave the queue in order as that supply grows: at
once from the workers that run, later from those that start, each at the time that past starts of
this endpoint let expect (`usual start - age` from now).

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
       is in flight. Nothing is stopped on this word alone: who stops is the idle workers' story
       (`reconcile.py`), so a rate that wavers cannot make workers come and go.

`request_count` is `ceil((waiting + in flight) / value)`. Both are held within `min..max`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from penstock_common.specs import EndpointSpec

#: The window over which the rate of arrivals is measured.
WINDOW_S: Final = 5.0
#: The time a start is thought to take before one was seen.
UNKNOWN_START_S: Final = 10.0
#: Share of the service capacity that the measured rate may use before a worker counts as surplus.
KEEP_UTILIZATION_RATIO: Final = 0.8
#: A worker that runs but does not take requests yet is thought to do so after this.
_ACCEPTS_SOON_S: Final = 1.0
#: Weight of the last start in the mean of past starts.
_START_WEIGHT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What the autoscaler knows of one endpoint now."""

    waiting: int = 0
    #: seconds
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    #: router → its counter of arrivals; a counter that fell was started anew
    arrivals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: mean seconds from dispatch to the response's end; None = not measured yet
    service_time_s: float | None = None
    #: workers that take requests
    running: int = 0
    #: workers that run and do not take requests yet
    unready: int = 0
    #: slots of running workers that are free: so many waiting requests are as good as dispatched
    free_slots: int = 0
    #: for each worker that starts, seconds since its assignment
    starting_ages_s: tuple[float, ...] = ()

    @property
    def workers(self) -> int:
        """Workers that run or start."""
        return self.running + self.unready + len(self.starting_ages_s)


@dataclass(frozen=True, slots=True)
class ScaleMemory:
    """What one decision leaves for the next. Immutable; `ScaleMemory()` at first."""

    #: router → the counter last seen
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: (when, arrivals) within the window
    arrivals: tuple[tuple[float, int], ...] = ()
    #: mean seconds from assignment to healthy, over past starts; None = none seen
    start_s: float | None = None
    #: rule 3: workers wanted since requests began to wait, and how often the oldest passed `value`
    wanted: int = 0
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, in `min..max`, and one sentence that says why."""

    desired: int
    why: str


def decide_workers(
    spec: EndpointSpec, load: Load, memory: ScaleMemory, now: float
) -> tuple[Decision, ScaleMemory]:
    """Number of workers that one endpoint needs now.

    Args:
        spec: limits and policy of the endpoint.
        load: its queue and its workers.
        memory: what the last call gave (`ScaleMemory()` at first); never mutated.
        now: monotonic seconds; must not go back between calls.

    Returns:
        (decision, memory): `decision.desired` lies in `workers.min..workers.max`. Below the number
        of workers there are, it says how many of them may go once they are idle.
    """
    memory = _count_arrivals(load.arrivals, memory, now)
    if spec.scaling.type == "request_count":
        wanted = math.ceil((load.waiting + load.in_flight) / spec.scaling.value)
        cause = f"{spec.scaling.value:g} requests per worker"
    elif load.service_time_s is None:
        wanted, memory = _without_service_time(spec, load, memory)
        cause = ""
    else:
        wanted, cause = _predicted(spec, load, load.service_time_s, memory)
        memory = replace(memory, wanted=0, passes=0)
    limits = spec.workers
    desired = min(max(wanted, limits.min), limits.max)
    if desired > wanted:
        cause = f"workers.min is {limits.min}"
    elif desired < wanted:
        cause = f"more are wanted, workers.max is {limits.max}"
    return Decision(desired, _why(load, desired, cause)), memory


def note_start(memory: ScaleMemory, duration_s: float) -> ScaleMemory:
    """Learn that a start of this endpoint took `duration_s` seconds."""
    before = memory.start_s
    mean_s = duration_s if before is None else before + _START_WEIGHT * (duration_s - before)
    return replace(memory, start_s=max(0.0, mean_s))


def _count_arrivals(counters: Mapping[str, int], memory: ScaleMemory, now: float) -> ScaleMemory:
    arrived = 0
    for router, count in counters.items():
        before = memory.counters.get(router)
        if before is not None:  # the first word of a router says nothing about when they arrived
            arrived += count - before if count >= before else count
    recent = tuple(a for a in memory.arrivals if now - a[0] < WINDOW_S)
    if arrived:
        recent = (*recent, (now, arrived))
    return replace(memory, counters=dict(counters), arrivals=recent)


# ---- queue_delay without a measured service time (rule 3)


def _without_service_time(
    spec: EndpointSpec, load: Load, memory: ScaleMemory
) -> tuple[int, ScaleMemory]:
    slots = spec.workers.max_concurrency
    if not load.waiting:
        busy = math.ceil(load.in_flight / slots)
        # Those that start have been wanted by somebody who left: let them come and fall idle.
        return busy, replace(memory, wanted=0, passes=0)
    passes = int(load.oldest_wait_s / spec.scaling.value)
    wanted = max(memory.wanted, load.workers, 1) + max(0, passes - memory.passes)
    at_once = math.ceil((load.waiting + load.in_flight) / slots)
    wanted = max(min(wanted, at_once), load.workers, 1)
    wanted = min(wanted, spec.workers.max)  # so that a later, higher max does not jump
    return wanted, replace(memory, wanted=wanted, passes=passes)


# ---- queue_delay, predicted (rules 1, 2, 4, 5)


@dataclass(frozen=True, slots=True)
class _Supply:
    """How fast requests leave the queue: workers that run, and when others become ready."""

    slots: int
    service_time_s: float
    running: int
    #: seconds from now, ascending
    ready_in_s: tuple[float, ...]

    def with_new(self, n: int, ready_in_s: float) -> "_Supply":
        """The same with `n` workers more, ready so many seconds from now."""
        return replace(self, ready_in_s=tuple(sorted(self.ready_in_s + (ready_in_s,) * n)))

    def queue_at(self, at_s: float, waiting: float, arrival_rate: float) -> float:
        """How many wait at `at_s` if `waiting` do now and `arrival_rate` per second come."""
        queue, t, workers = waiting, 0.0, self.running
        for ready_s in (*(r for r in self.ready_in_s if r < at_s), at_s):
            net = arrival_rate - workers * self.slots / self.service_time_s
            queue = max(0.0, queue + net * (ready_s - t))
            t = ready_s
            if ready_s < at_s:
                queue = max(0.0, queue - self.slots)
                workers += 1
        return queue

    def left_at(self, since_s: float, queue: float) -> float:
        """When the last of `queue` requests, waiting at `since_s`, has left; inf = never."""
        if queue <= 0:
            return since_s
        t, workers = since_s, self.running + sum(r < since_s for r in self.ready_in_s)
        for ready_s in (r for r in self.ready_in_s if r >= since_s):
            rate = workers * self.slots / self.service_time_s
            if queue <= rate * (ready_s - t):
                break
            queue -= rate * (ready_s - t) + self.slots
            t, workers = ready_s, workers + 1
            if queue <= 0:
                return t
        rate = workers * self.slots / self.service_time_s
        return t + queue / rate if rate else math.inf


def _predicted(
    spec: EndpointSpec, load: Load, service_time_s: float, memory: ScaleMemory
) -> tuple[int, str]:
    slots, value_s = spec.workers.max_concurrency, spec.scaling.value
    service_time_s = max(service_time_s, 1e-6)
    start_s = UNKNOWN_START_S if memory.start_s is None else memory.start_s
    rate = sum(n for _, n in memory.arrivals) / WINDOW_S
    waiting = max(0, load.waiting - load.free_slots)
    existing = load.workers
    # What waits has arrived in the window as well; it counts once, as waiting.
    inflow = max(0.0, rate - load.waiting / WINDOW_S)
    supply = _Supply(
        slots,
        service_time_s,
        load.running,
        tuple(sorted([_ACCEPTS_SOON_S] * load.unready + _ready_times(load, start_s))),
    )

    def last_leaves_at(n_new: int) -> float:
        more = supply.with_new(n_new, start_s)
        queue_then = more.queue_at(start_s, waiting, inflow)
        return max(more.left_at(0.0, waiting), more.left_at(start_s, queue_then))

    wait_s = last_leaves_at(0)
    if wait_s > start_s + value_s:
        stable = math.ceil(inflow * service_time_s / slots)
        # With so many every one that waits at τ gets a slot at once.
        plenty = existing + 1 + math.ceil((waiting + inflow * start_s) / slots)
        wanted = _fewest(
            lambda n: n >= stable and last_leaves_at(n - existing) <= start_s + value_s,
            existing + 1,
            min(max(plenty, stable), max(existing, spec.workers.max) + 1),
        )
        return wanted, _delay_cause(wait_s, value_s)
    overdue = load.oldest_wait_s > max(value_s, start_s)
    more_than_fit = load.waiting + load.in_flight > existing * slots
    if overdue and more_than_fit and not load.starting_ages_s:
        return existing + 1, f"that is longer than a start takes ({start_s:.1f} s)"
    if load.waiting:
        return existing, ""
    needed = math.ceil(rate * service_time_s / (slots * KEEP_UTILIZATION_RATIO))
    return min(existing, max(needed, math.ceil(load.in_flight / slots))), ""


def _ready_times(load: Load, start_s: float) -> list[float]:
    # One that is overdue by x is expected in another x: the later it is, the less it counts.
    return [abs(start_s - age_s) for age_s in load.starting_ages_s]


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
