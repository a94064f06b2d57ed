"""The workers of one endpoint: which to resume, start, replace and drain.

Order of steps, each seeing the ones before it:

1. Resume: draining workers come back before new ones are started; while anything waits they all do.
2. Start: what is wanted and not there in the present revision, up to `max`, and while workers of
   older revisions are being replaced up to one more. After failed starts one at a time, or none.
3. Replace: older workers are drained as new ones run (at once when none is wanted). When no GPU is
   left for the new one, an old one makes room first. Workers on a node that drains
   (`node_orders.py`) and those whose GPU went bad (`gpu_faults.py`) count as older ones. Those that
   were ordered to stop (`worker_orders.py`), and past the deadline of a node's order its workers,
   are drained first of all.
4. Shrink: what is above `max` goes, idle or not; what is above the wanted number goes when it has
   been idle for `idle_timeout_s`, or was not needed for so long and is idle now, the longest idle
   first (`penstock_autoscaler.idle`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from penstock_autoscaler.decide import Decision, ScaleMemory, decide_workers
from penstock_autoscaler.idle import pick_idle
from penstock_autoscaler.least import least_workers
from penstock_autoscaler.load import Load, Starting
from penstock_common.messages import EndpointRecord
from penstock_common.specs import EndpointSpec
from penstock_common.states import DesiredState, Phase, WorkerReason
from penstock_scheduler.holdings.ledger import booking_of
from penstock_scheduler.placement.cluster import Request, Trial
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.backoff import Backoff
from penstock_scheduler.rollout.image_pins import strays
from penstock_scheduler.snapshot import QueueLoad, Snapshot, Stage, Worker

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
#: Most workers tried as ones to make room.
MAX_VICTIMS: Final = 50


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
    for worker in _over_max(draft, record, left):
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


def is_old(draft: Draft, record: EndpointRecord, worker: Worker) -> bool:
    """Whether another worker is to take over: for its revision, image, GPU, node, or an order."""
    return (
        is_outdated(draft, record, worker)
        or draft.gpu_faults.is_bad(worker)
        or draft.moves(worker)
        or draft.is_to_stop(worker)
    )


def is_outdated(draft: Draft, record: EndpointRecord, worker: Worker) -> bool:
    """Whether it runs something else than the present revision does."""
    pin = draft.pin_of(record)
    return not record.runs(worker.assignment.revision) or strays(worker, pin)


def drain_all(draft: Draft, workers: Iterable[Worker], reason: WorkerReason) -> None:
    """Drain every worker that still takes requests."""
    for worker in workers:
        if draft.is_active(worker):
            draft.desire(worker, DesiredState.DRAINING, reason)


def find_room(draft: Draft, request: Request, candidates: Sequence[Worker]) -> list[Worker] | None:
    """Who has to leave so that this worker finds a place.

    Args:
        draft: the plan in the making.
        request: the worker that found none.
        candidates: who may leave, the first to go first.

    Returns:
        Workers to drain; [] = those that leave already make the room; None = nothing helps.
    """
    with Trial(draft.cluster) as trial:
        for booking in draft.ledger.leaving:
            trial.release(booking)
        if trial.find(request):
            return []
        released: list[Worker] = []
        for worker in candidates[:MAX_VICTIMS]:
            trial.release(booking_of(worker.assignment))
            released.append(worker)
            if place := trial.find(request):
                return [
                    w
                    for w in released
                    if w.assignment.node_id == place.node_id
                    and set(w.assignment.gpus) & set(place.gpus)
                ]
    return None


# ---- the steps


def load_of(
    spec: EndpointSpec, queue: QueueLoad, active: Sequence[Worker], snapshot: Snapshot
) -> Load:
    """The autoscaler's view: the queue, and the workers that take or will take requests."""
    running = [w for w in active if w.stage is Stage.RUNNING]
    # One that its driver has not spoken of yet takes requests as far as anybody knows.
    unready = [w for w in running if w.load is not None and not w.load.accepting]
    slots = spec.workers.max_concurrency
    return Load(
        waiting=queue.waiting,
        oldest_wait_s=queue.oldest_wait_s,
        in_flight=queue.in_flight,
        arrivals=queue.arrivals,
        service_time_s=queue.service_time_s,
        running=len(running) - len(unready),
        unready=len(unready),
        free_slots=sum(
            max(0, slots - w.load.in_flight)
            for w in running
            if w.load is not None and w.load.accepting
        ),
        starting=tuple(_starting(w, snapshot) for w in active if w.stage is Stage.STARTING),
    )


def _starting(worker: Worker, snapshot: Snapshot) -> Starting:
    """How far a worker is; no clock of a node is compared with ours."""
    age_s = max(0.0, (snapshot.utc - worker.assignment.assigned_at).total_seconds())
    phases = worker.status.phases if worker.status else {}
    received_at = phases.get(Phase.RECEIVED)
    if received_at is None:
        return Starting(age_s)
    last = max(phases, key=list(Phase).index)
    reached_after_s = max(0.0, (phases[last] - received_at).total_seconds())
    return Starting(age_s, last, max(0.0, age_s - reached_after_s))


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


def drain_old(draft: Draft, record: EndpointRecord, workers: Iterable[Worker]) -> None:
    """Drain these, each for what is old about it as this record has it."""
    for worker in workers:
        reason = WorkerReason.NODE_DRAINED
        if draft.is_to_stop(worker):
            reason = WorkerReason.STOP_ORDERED
        elif draft.gpu_faults.is_bad(worker):
            reason = WorkerReason.GPU_UNHEALTHY
        elif is_outdated(draft, record, worker):
            reason = WorkerReason.UPDATED
        drain_all(draft, [worker], reason)


def replace_old(
    draft: Draft,
    record: EndpointRecord,
    new: Sequence[Worker],
    old: Sequence[Worker],
    *,
    wanted: int,
    lacking: str | None,
    request: Request,
) -> None:
    """Drain older workers as newer ones run, or to make room for the first of those."""
    n_running = sum(w.stage is Stage.RUNNING for w in new)
    if n_running or not wanted:
        going = old[: max(0, n_running + len(old) - wanted)]
        drain_old(draft, record, going)
        if going:
            return
    new_on_the_way = draft.creates_of(request.endpoint_id) or len(new) > n_running
    if lacking and draft.snapshot.settled and not new_on_the_way:
        room = find_room(draft, request, old)
        drain_old(draft, record, room or ())


def make_quota(
    draft: Draft, record: EndpointRecord, new: Sequence[Worker], old: Sequence[Worker]
) -> None:
    """Drain as many older workers as let one of the present revision start, if any do."""
    if draft.creates_of(record.endpoint_id) or any(w.stage is not Stage.RUNNING for w in new):
        return  # one at a time
    quotas = draft.quotas_after_drains()
    going: list[Worker] = []
    for worker in filter(draft.is_active, old):
        if quotas.room(record) != 0:
            break
        quotas.release(worker.assignment.owner, len(worker.assignment.gpus))
        going.append(worker)
    if quotas.room(record) != 0:
        drain_old(draft, record, going)


def stop_idle(
    draft: Draft, workers: Sequence[Worker], decision: Decision, *, timeout_s: float
) -> None:
    """Drain those that were idle for long enough, or not needed for so long."""
    idle = {w.id: w for w in workers if w.idle_s is not None}
    idle_s = [(name, w.idle_s or 0.0) for name, w in idle.items()]
    for name in pick_idle(idle_s, len(workers), decision, timeout_s):
        worker = idle[name]
        timed_out = (worker.idle_s or 0.0) >= timeout_s
        reason = WorkerReason.IDLE if timed_out else WorkerReason.SCALED_DOWN
        draft.desire(worker, DesiredState.DRAINING, reason)


def cancel_starts(draft: Draft, workers: Sequence[Worker], decision: Decision) -> None:
    """Stop workers that nobody waits for any more, those that began last first."""
    left = [w for w in workers if draft.is_active(w)]
    starting = [w for w in left if w.stage is Stage.STARTING]
    starting.sort(key=lambda w: (w.assignment.assigned_at, w.id), reverse=True)
    for worker in starting[: max(0, len(left) - decision.desired)]:
        draft.desire(worker, DesiredState.DRAINING, WorkerReason.SCALED_DOWN)


def _over_max(draft: Draft, record: EndpointRecord, workers: Sequence[Worker]) -> list[Worker]:
    """Who goes when more run than may: those to be replaced first, then who is missed least.

    One more than `max` may run while a new one replaces an old one. When all are old (another
    revision came in the middle), the one too many makes room for a new one.
    """
    old = {w.id for w in workers if is_old(draft, record, w)}
    n_created = draft.creates_of(record.endpoint_id)
    left = sorted(workers, key=lambda w: (w.id not in old, *least_missed(w)))
    going: list[Worker] = []
    while True:
        n_old = sum(w.id in old for w in left)
        surge = 1 if n_old and (n_created or n_old < len(left)) else 0
        if len(left) <= record.spec.workers.max + surge:
            return going
        going.append(left.pop(0))


def least_missed(worker: Worker) -> tuple[bool, float, int, str]:
    """Order of going: who only starts, then the longest idle, then the least busy."""
    in_flight = worker.load.in_flight if worker.load else 0
    return worker.stage is Stage.RUNNING, -(worker.idle_s or 0.0), in_flight, worker.id
