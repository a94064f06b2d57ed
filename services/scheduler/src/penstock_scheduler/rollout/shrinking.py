"""Workers that are more than are needed, or more than there may be: who goes, and in which order."""

from collections.abc import Sequence

from penstock_autoscaler.decide import Decision
from penstock_autoscaler.idle import pick_idle
from penstock_common.messages import EndpointRecord
from penstock_common.states import DesiredState, WorkerReason
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.replacing import is_old
from penstock_scheduler.snapshot import Stage, Worker


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


def over_max(draft: Draft, record: EndpointRecord, workers: Sequence[Worker]) -> list[Worker]:
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
