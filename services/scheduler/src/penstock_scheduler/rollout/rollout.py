"""The workers of one endpoint: which to resume, start, replace and drain.

Order of steps, each seeing the ones before it:

1. Resume: draining workers come back before new ones are started; while anything waits they all do.
2. Start: what is wanted and not there in the present revision, up to `max`, and while workers of
   older revisions are being replaced up to one more. After failed starts one at a time, or none.
3. Replace (`replacing.py`): older workers are drained as new ones run (at once when none is wanted).
   When no GPU is left for the new one, an old one makes room first. Workers on a node that drains
   (`node_orders.py`) and those whose GPU went bad (`gpu_faults.py`) count as older ones. Those that
   were ordered to stop (`worker_orders.py`), and past the deadline of a node's order its workers,
   are drained first of all.
4. Shrink (`shrinking.py`): what is above `max` goes, idle or not; what is above the wanted number goes when it has
   been idle for `idle_timeout_s`, or was not needed for so long and is idle now, the longest idle
   first (`penstock_autoscaler.idle`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from penstock_autoscaler.decide import Decision, ScaleMemory, decide_workers
from penstock_autoscaler.least import least_workers
from penstock_autoscaler.load import Load
from penstock_common.messages import EndpointRecord
from penstock_common.states import DesiredState, WorkerReason
from penstock_scheduler.placement.cluster import Request
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.backoff import Backoff
from penstock_scheduler.rollout.image_pins import strays
from penstock_scheduler.rollout.load import load_of
from penstock_scheduler.rollout.replacing import (
    drain_old,
    is_old,
    is_outdated,
    make_quota,
    replace_old,
)
from penstock_scheduler.rollout.shrinking import cancel_starts, least_missed, over_max, stop_idle
from penstock_scheduler.snapshot import QueueLoad, Stage, Worker

#: Groups and nodes scored by one plan; placing more waits for the next tick, so that no tick takes seconds.
SCORE_BUDGET: Final = 50_000
#: A worker that drains for one of these may come back.
RESUMABLE: Final = frozenset(
    {
        WorkerReason.IDLE,
        WorkerReason.SCALED_DOWN,
        WorkerReason.ENDPOINT_PAUSED,
        WorkerReason.NODE_DRAINED,
    }
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What became of the wish for one endpoint's workers."""

    #: workers that should run or start after this plan, placed or not
    desired: int
    why: str
    scale: ScaleMemory
    #: what the autoscaler said, and of what load
    decision: Decision
    load: Load
    #: what the queue's requests take at most, 95 of 100
    service_p95_s: float | None = None
    #: the worker that found no place, and why
    lacking: tuple[Request, str] | None = None
    #: why the owner's quota lets a wanted worker not start
    over_quota: str | None = None


def plan_workers(
    draft: Draft,
    record: EndpointRecord,
    workers: Sequence[Worker],
    scale: ScaleMemory,
    backoff: Backoff,
) -> Rollout:
    """Add to `draft` what this endpoint's workers need.

    Args:
        draft: the plan in the making.
        record: the endpoint, neither paused nor deleted.
        workers: its workers that have not ended.
        scale: the autoscaler's memory of it.
        backoff: its failed starts.
    """
    snapshot, limits = draft.snapshot, record.spec.workers
    queue = snapshot.loads.get(record.endpoint_id, QueueLoad())
    active = [w for w in workers if w.active and draft.is_active(w)]
    load = load_of(record.spec, queue, active, snapshot)
    least = least_workers(record.spec, snapshot.utc)
    decision, scale = decide_workers(record.spec, load, scale, snapshot.now, least=least)
    wanted = decision.desired

    resumed = _resume(draft, record, workers, n_active=len(active), wanted=wanted, queue=queue)
    new = [w for w in active if not is_old(draft, record, w)] + resumed
    old = [w for w in active if is_old(draft, record, w)]
    # Those on bad GPUs first: what the others run may be old, but it runs.
    old.sort(key=lambda w: (not draft.gpu_faults.is_bad(w), *least_missed(w)))
    moving = not any(is_outdated(draft, record, w) for w in old)
    drain_old(draft, record, [w for w in old if draft.is_overdue(w)])
    old = [w for w in old if draft.is_active(w)]

    n_new = _startable(record, new, old, wanted=wanted, backoff=backoff, now=snapshot.now)
    request = Request(
        record.endpoint_id,
        record.spec,
        avoid=backoff.nodes,
        volumes=snapshot.tables.volumes,
        image_digest=draft.pin_of(record),
    )
    lacking, over_quota = start_workers(draft, record, request, n_new)

    if old:
        replace_old(draft, record, new, old, wanted=wanted, lacking=lacking, request=request)
        if over_quota:
            make_quota(draft, record, new, old)
        if moving and not queue.waiting:
            # It may take for ever; those that run shrink meanwhile as they would anyway.
            run = [w for w in (*old, *new) if w.stage is Stage.RUNNING and draft.is_active(w)]
            stop_idle(draft, run, decision, timeout_s=limits.idle_timeout_s)
    elif not queue.waiting:
        stop_idle(draft, new, decision, timeout_s=limits.idle_timeout_s)
        if record.spec.scaling.cancel_starts:
            cancel_starts(draft, new, decision)
    left = [w for w in (*old, *new) if draft.is_active(w)]
    for worker in over_max(draft, record, left):
        draft.desire(worker, DesiredState.DRAINING, WorkerReason.SCALED_DOWN)
    n_left = sum(draft.is_active(w) for w in left)
    desired = max(wanted, min(n_left, limits.max))
    why = decision.why
    if desired < len(active):
        cause = _cause(draft, record, active, new, wanted=wanted)
        why = f"{len(active)} → {desired}: {cause}"
    lack = (request, lacking) if lacking else None
    p95_s = queue.service_p95_s
    return Rollout(desired, why, scale, decision, load, p95_s, lack, over_quota)


def _cause(
    draft: Draft,
    record: EndpointRecord,
    active: Sequence[Worker],
    new: Sequence[Worker],
    *,
    wanted: int,
) -> str:
    """Why fewer workers are desired than were active."""
    limits = record.spec.workers
    if any(map(draft.is_to_stop, active)):
        return "ordered to stop"
    if any(not record.runs(w.assignment.revision) for w in active):
        return f"{wanted} wanted of revision {record.revision}"
    if any(strays(w, draft.pin_of(record)) for w in active):
        return f"{wanted} wanted with the image of revision {record.revision}"
    if any(map(draft.gpu_faults.is_bad, active)):
        return f"{wanted} wanted on GPUs that are not bad"
    if any(map(draft.moves, active)):
        return f"{wanted} wanted off nodes that drain"
    if len(active) > limits.max:
        return f"workers.max is {limits.max}"
    if any(w.stage is Stage.STARTING and not draft.is_active(w) for w in new):
        return "nobody waits for what starts"
    if any(draft.reason_of(w) is WorkerReason.SCALED_DOWN for w in new):
        return f"no more were needed for {limits.idle_timeout_s:g} s"
    return f"idle for {limits.idle_timeout_s:g} s"


def _resume(
    draft: Draft,
    record: EndpointRecord,
    workers: Sequence[Worker],
    *,
    n_active: int,
    wanted: int,
    queue: QueueLoad,
) -> list[Worker]:
    room = record.spec.workers.max - n_active
    if not queue.waiting:
        room = min(room, wanted - n_active)
    resumable = [
        w
        for w in workers
        if w.stage is Stage.DRAINING
        and not is_old(draft, record, w)
        and w.assignment.reason in RESUMABLE
    ]
    resumed = resumable[: max(0, room)]
    for worker in resumed:
        draft.desire(worker, DesiredState.RUNNING, None)
    return resumed


def _startable(
    record: EndpointRecord,
    new: Sequence[Worker],
    old: Sequence[Worker],
    *,
    wanted: int,
    backoff: Backoff,
    now: float,
) -> int:
    """How many workers to start."""
    if backoff.pauses(now):
        return 0
    limit = record.spec.workers.max + (1 if old else 0)
    n = min(wanted - len(new), limit - len(new) - len(old))
    if backoff.failures:
        n = min(n, 1 - sum(w.stage is Stage.STARTING for w in new))
    return max(0, n)


def start_workers(
    draft: Draft, record: EndpointRecord, request: Request, n: int
) -> tuple[str | None, str | None]:
    """Start `n` workers; gives why not all of them found a place, or why the quota forbids it."""
    if n == 0 or draft.cluster.scored > SCORE_BUDGET:
        return None, None
    room = draft.quotas.room(record)
    n_allowed = n if room is None else min(n, room)
    placements, lack = draft.cluster.place(request, n_allowed)
    for placement in placements:
        draft.create(record, placement)
    if lack is not None:
        return lack.message, None
    return None, draft.quotas.explain(record) if n_allowed < n else None
