"""The workers of an endpoint of which two revisions share the traffic (docs/adr/0017).

Each revision is a *side* with its share of the workers wanted, and is rolled out as `rollout.py`
does, up to its share. What a side has beyond its share is its *excess*:

- it leaves when it is idle, as what nobody needs does; so nothing is taken from those who use it;
- with `max` workers there already, the other side may start one more at a time; once that one runs,
  one of the excess is drained, like an old worker whose successor runs;
- without a GPU, or within the quota, for the other side, some of it makes room.

Of one wanted worker each side has one, though that be one above `max`. Both sides fall to zero
together, when every worker has been idle for `idle_timeout_s`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from penstock_autoscaler.decide import Decision, ScaleMemory, decide_workers
from penstock_autoscaler.least import least_workers
from penstock_common.messages import EndpointRecord
from penstock_common.specs import with_what_runs
from penstock_common.states import DesiredState
from penstock_scheduler.placement.cluster import Request
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.backoff import Backoff
from penstock_scheduler.rollout.load import load_of
from penstock_scheduler.rollout.replacing import (
    drain_old,
    is_old,
    is_outdated,
    make_quota,
    replace_old,
)
from penstock_scheduler.rollout.rollout import RESUMABLE, Rollout, start_workers
from penstock_scheduler.rollout.shrinking import cancel_starts, least_missed, stop_idle
from penstock_scheduler.snapshot import QueueLoad, Stage, Worker


def divide(wanted: int, percent: int) -> tuple[int, int]:
    """So many workers for the stable side and for the canary: largest remainder, one each at least.

    Args:
        wanted: workers of both; of one wanted, each side has one.
        percent: the canary's share, 1 to 99.
    """
    if wanted <= 1:
        return wanted, wanted
    canary, remainder = divmod(wanted * percent, 100)
    # Of two remainders that make 100 the greater counts; equal ones go to the stable side.
    canary += remainder > 50
    canary = min(max(canary, 1), wanted - 1)
    return wanted - canary, canary


def n_wanted(record: EndpointRecord, wanted: int) -> int:
    """The workers that this number stands for: one more where a canary has the second of one."""
    canary = record.canary
    return wanted if canary is None else sum(divide(wanted, canary.percent))


def sides_of(record: EndpointRecord) -> tuple[EndpointRecord, ...]:
    """The present revision, and behind it a canary's stable one, as records of their own."""
    canary = record.canary
    if canary is None:
        return (record,)
    stable = record.model_copy(
        update={
            "revision": canary.stable,
            "same_as": canary.same_as,
            "spec": with_what_runs(record.spec, canary.spec),
        }
    )
    return record, stable


@dataclass(slots=True)
class _Side:
    """One revision in the making of a plan."""

    record: EndpointRecord
    share: int
    backoff: Backoff
    #: workers that are to stay, and those to be replaced
    new: list[Worker] = field(default_factory=list)
    old: list[Worker] = field(default_factory=list)
    lacking: tuple[Request, str] | None = None
    over_quota: str | None = None

    @property
    def excess(self) -> list[Worker]:
        """Who goes first of those beyond the share."""
        beyond = max(0, len(self.new) - self.share)
        return sorted(self.new, key=least_missed)[:beyond]


def plan_canary(
    draft: Draft,
    record: EndpointRecord,
    workers: Sequence[Worker],
    scale: ScaleMemory,
    backoffs: tuple[Backoff, Backoff],
) -> Rollout:
    """Add to `draft` what this endpoint's workers need; as `plan_workers`, for two revisions.

    Args:
        draft: the plan in the making.
        record: the endpoint with its canary, neither paused nor deleted.
        workers: its workers that have not ended.
        scale: the autoscaler's memory of it.
        backoffs: failed starts of the stable revision and of the canary.
    """
    assert record.canary is not None
    snapshot, limits, percent = draft.snapshot, record.spec.workers, record.canary.percent
    queue = snapshot.loads.get(record.endpoint_id, QueueLoad())
    active = [w for w in workers if w.active and draft.is_active(w)]
    load = load_of(record.spec, queue, active, snapshot)
    least = least_workers(record.spec, snapshot.utc)
    decision, scale = decide_workers(record.spec, load, scale, snapshot.now, least=least)
    shares = divide(decision.desired, percent)
    present, stable_record = sides_of(record)
    stable = _Side(stable_record, shares[0], backoffs[0])
    canary = _Side(present, shares[1], backoffs[1])
    sides = (stable, canary)
    for worker in workers:
        side = canary if record.runs(worker.assignment.revision) else stable
        _take(draft, side, worker)

    most = max(limits.max, sum(shares))
    for side, other in ((stable, canary), (canary, stable)):
        _resume(draft, side, workers, room=most - _count(draft, sides))
        _start(draft, side, other, sides, most=most)
    for side, other in ((stable, canary), (canary, stable)):
        _make_way(draft, side, other)
    if not queue.waiting:
        _shrink(draft, sides, decision, percent, timeout_s=limits.idle_timeout_s)
    for worker in _over_max(draft, sides, most):
        drain_old(draft, _other(sides, worker), [worker])

    n_left = sum(draft.is_active(w) for side in sides for w in (*side.new, *side.old))
    desired = max(sum(shares), min(n_left, limits.max))
    why = decision.why
    if desired < len(active):
        split = f"{shares[0]} of revision {stable.record.revision}, {shares[1]} of the canary"
        why = f"{len(active)} → {desired}: {split} wanted"
    lacking = stable.lacking or canary.lacking
    over_quota = stable.over_quota or canary.over_quota
    p95_s = queue.service_p95_s
    return Rollout(desired, why, scale, decision, load, p95_s, lacking, over_quota)


def _take(draft: Draft, side: _Side, worker: Worker) -> None:
    """Sort a worker into its side; one that must leave its node does."""
    if not (worker.active and draft.is_active(worker)):
        return
    if not is_old(draft, side.record, worker):
        side.new.append(worker)
    elif draft.is_overdue(worker):
        drain_old(draft, side.record, [worker])
    else:
        side.old.append(worker)


def _count(draft: Draft, sides: Sequence[_Side]) -> int:
    """Workers that count against `max`, this plan included."""
    n = sum(draft.is_active(w) for side in sides for w in (*side.new, *side.old))
    return n + draft.creates_of(sides[0].record.endpoint_id)


def _resume(draft: Draft, side: _Side, workers: Sequence[Worker], *, room: int) -> None:
    resumable = [
        w
        for w in workers
        if w.stage is Stage.DRAINING
        and not is_old(draft, side.record, w)
        and w.assignment.reason in RESUMABLE
    ]
    for worker in resumable[: max(0, min(room, side.share - len(side.new) - len(side.old)))]:
        draft.desire(worker, DesiredState.RUNNING, None)
        side.new.append(worker)


def _start(draft: Draft, side: _Side, other: _Side, sides: Sequence[_Side], *, most: int) -> None:
    """Start what the side lacks; one more than may run while somebody is to leave for it."""
    if side.backoff.pauses(draft.snapshot.now):
        return
    surge = 1 if side.old or other.old or other.excess else 0
    limit = max(most, side.record.spec.workers.max + surge)
    n = min(side.share - len(side.new), limit - _count(draft, sides))
    if side.backoff.failures:
        n = min(n, 1 - sum(w.stage is Stage.STARTING for w in side.new))
    request = Request(
        side.record.endpoint_id,
        side.record.spec,
        avoid=side.backoff.nodes,
        volumes=draft.snapshot.tables.volumes,
        image_digest=draft.pin_of(side.record),
    )
    lacking, side.over_quota = start_workers(draft, side.record, request, max(0, n))
    side.lacking = (request, lacking) if lacking else None


def _make_way(draft: Draft, side: _Side, other: _Side) -> None:
    """Drain the side's old workers as new ones run; make room where there is none."""
    if side.old:
        request, lacking = side.lacking or (None, None)
        replace_old(
            draft,
            side.record,
            side.new,
            side.old,
            wanted=side.share,
            lacking=lacking,
            request=request or Request(side.record.endpoint_id, side.record.spec),
        )
    spare = [w for w in (*side.old, *other.old, *other.excess) if draft.is_active(w)]
    if side.lacking is not None and other.excess:
        request, lacking = side.lacking
        # Nothing is drained for one that runs already: `_over_max` and idleness see to the excess.
        replace_old(
            draft, side.record, [], spare, wanted=len(spare) + 1, lacking=lacking, request=request
        )
    if side.over_quota and spare:
        make_quota(draft, side.record, side.new, spare)


def _shrink(
    draft: Draft,
    sides: Sequence[_Side],
    decision: Decision,
    percent: int,
    *,
    timeout_s: float,
) -> None:
    """Stop what nobody needs: each side down to its share of what is to stay."""
    active = [w for side in sides for w in (*side.old, *side.new) if draft.is_active(w)]
    in_use = any(w.idle_s is None or w.idle_s < timeout_s for w in active)
    floors = divide(decision.desired or int(in_use), percent)
    kept = None if decision.kept is None else divide(decision.kept, percent)
    # What runs on one side stands in for what the other lacks until that runs as well.
    n_spare = sum(w.stage is Stage.RUNNING for w in active) - sum(floors)
    for place, side in enumerate(sides):
        if any(is_outdated(draft, side.record, w) for w in side.old):
            continue
        # Those that leave their nodes may do so for ever; they shrink meanwhile as they would anyway.
        going = [w for w in (*side.old, *side.new) if draft.is_active(w)]
        of_side = replace(
            decision, desired=floors[place], kept=None if kept is None else kept[place]
        )
        if side.record.spec.scaling.cancel_starts:
            cancel_starts(draft, going, of_side)
            going = [w for w in going if draft.is_active(w)]
        least = max(floors[place], len(going) - max(0, n_spare))
        stop_idle(draft, going, replace(of_side, desired=least), timeout_s=timeout_s)
        n_spare -= sum(not draft.is_active(w) for w in going)


def _over_max(draft: Draft, sides: Sequence[_Side], most: int) -> list[Worker]:
    """Who goes when more run than may: the old, then the excess, then who is missed least."""
    n_created = draft.creates_of(sides[0].record.endpoint_id)
    old = [w for side in sides for w in side.old if draft.is_active(w)]
    excess = [w for side in sides for w in side.excess if draft.is_active(w)]
    leaving = {w.id for w in (*old, *excess)}
    new = [w for side in sides for w in side.new if draft.is_active(w) and w.id not in leaving]
    coming = n_created or any(w.stage is not Stage.RUNNING for w in new)
    limit = sides[0].record.spec.workers.max + (1 if leaving and coming else 0)
    n_over = len(old) + len(excess) + len(new) - max(most, limit)
    order = (*sorted(old, key=least_missed), *sorted(excess, key=least_missed))
    return [*order, *sorted(new, key=least_missed)][: max(0, n_over)]


def _other(sides: Sequence[_Side], worker: Worker) -> EndpointRecord:
    """The record of the side that a worker goes for."""
    mine = next(side for side in sides if worker in (*side.new, *side.old))
    return next(side for side in sides if side is not mine).record
