"""Workers that are assigned, and the orders to stop them."""

from datetime import datetime
from typing import ClassVar

from penstock_api.store import Store
from penstock_api.worker_orders import plan_stop
from penstock_client.documents import StopRequest
from penstock_common.errors import PenstockError
from penstock_common.messages import WorkerAssignment, WorkerOrder
from penstock_common.subjects import WORKER_ORDERS, worker_key


class WorkerNotFoundError(PenstockError):
    """There is no such worker."""

    error_type: ClassVar[str] = "worker_not_found"
    status_hint: ClassVar[int] = 404


def find_worker(store: Store, worker_id: str) -> WorkerAssignment:
    """The assignment of the worker with this id.

    Raises:
        WorkerNotFoundError: none has it, or has it any more.
    """
    found = store.find_assignment(worker_id)
    if found is None:
        raise WorkerNotFoundError(f"there is no worker '{worker_id}', or none any more")
    return found


async def order_stop(
    store: Store, assignment: WorkerAssignment, request: StopRequest, *, now: datetime
) -> WorkerOrder | None:
    """Order a worker to stop; gives the order as it is then, None = it had been given.

    Raises:
        PenstockError: NATS is away or timed out, in which case the order may or may not stand.
    """

    def plan(data: bytes | None) -> WorkerOrder | None:
        old = WorkerOrder.decode(data) if data is not None else None
        order = plan_stop(assignment, old, request, now=now)
        return None if order == old else order

    key = worker_key(assignment.node_id, assignment.worker_id)
    return await store.change_record(WORKER_ORDERS, key, plan)
