"""What a worker has used [pure].

A worker's GPUs are held from its assignment, since nobody else can get them from then on, until
its node has proved its end, since nobody else can get them before.
"""

from datetime import datetime

from penstock_common.messages import UsageRecord, WorkerAssignment, WorkerStatus
from penstock_common.states import ENDED


def usage_until(
    assignment: WorkerAssignment, status: WorkerStatus | None, *, utc: datetime
) -> UsageRecord:
    """What this worker has used until `utc`, or until its end if that was before.

    Args:
        assignment: what the scheduler wants.
        status: what the node says; None = nothing.
        utc: the present instant.
    """
    ended_at = assignment.ended_at
    if ended_at is None and status is not None and status.state in ENDED:
        ended_at = status.updated_at
    return UsageRecord(
        worker_id=assignment.worker_id,
        endpoint_id=assignment.endpoint_id,
        app_name=assignment.spec.app_name,
        owner=assignment.owner,
        node_id=assignment.node_id,
        gpu_product=assignment.gpu_product,
        gpus=len(assignment.gpus),
        began_at=assignment.assigned_at,
        # Clocks of nodes differ: the end is never before the beginning, nor in our future.
        ended_at=max(assignment.assigned_at, min(ended_at or utc, utc)),
    )
