"""Orders to stop workers: what a request makes of the order that stands, and which may go [pure]."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from penstock_client.documents import StopRequest
from penstock_common.messages import WorkerAssignment, WorkerOrder

#: An order about no worker is kept for so long after it was given: another api's table of workers
#: may be behind the one that it was given from.
KEPT_S: Final = 10.0


def plan_stop(
    assignment: WorkerAssignment, old: WorkerOrder | None, request: StopRequest, *, now: datetime
) -> WorkerOrder:
    """The order that is to stand; `old` itself when the request changes nothing.

    Args:
        assignment: of the worker.
        old: the order that stands; None = none.
        request: what it leaves out stays as it is.
        now: the present instant.
    """
    order = old or WorkerOrder(
        worker_id=assignment.worker_id,
        node_id=assignment.node_id,
        endpoint_id=assignment.endpoint_id,
        at=now,
    )
    update: dict[str, object] = {}
    if "reason" in request.model_fields_set and request.reason != order.reason:
        update["reason"] = request.reason
    if "deadline_s" in request.model_fields_set:
        deadline_s = request.deadline_s
        deadline_at = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        if deadline_at != order.deadline_at:
            update["deadline_at"] = deadline_at
    return order.model_copy(update=update) if update else order


def carried_out(
    orders: Mapping[str, WorkerOrder], is_assigned: Callable[[str], bool], *, now: datetime
) -> list[str]:
    """Keys of the orders whose workers are gone.

    Args:
        orders: all orders, by the keys of their workers.
        is_assigned: whether a worker has an assignment under a key; true while that is not known.
        now: the present instant.
    """
    return [
        key
        for key, order in orders.items()
        if (now - order.at).total_seconds() >= KEPT_S and not is_assigned(key)
    ]
