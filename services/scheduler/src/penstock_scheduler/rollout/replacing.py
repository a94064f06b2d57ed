"""Workers whose place another one is to take: who they are, and when they go.

They drain as new ones run, at once when none is wanted, and before that only to make room for the
first new one: its GPU, or its share of the owner's quota.
"""

from collections.abc import Iterable, Sequence

from penstock_common.messages import EndpointRecord
from penstock_common.states import WorkerReason
from penstock_scheduler.placement.cluster import Request
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.image_pins import strays
from penstock_scheduler.rollout.room import find_room
from penstock_scheduler.snapshot import Stage, Worker


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
        draft.drain([worker], reason)


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
