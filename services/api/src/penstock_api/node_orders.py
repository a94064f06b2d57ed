"""Operators' orders about nodes: what a request makes of the order that stands [pure]."""

from datetime import datetime, timedelta

from penstock_client.documents import CordonRequest, DrainRequest
from penstock_common.messages import NodeOrder, NodeRecord
from penstock_common.states import NodeState, NodeWish


def plan_order(
    node_id: str, old: NodeOrder | None, request: CordonRequest, *, now: datetime
) -> NodeOrder:
    """The order that is to stand; `old` itself when the request changes nothing.

    Args:
        node_id: the node.
        old: the order that stands; None = none.
        request: a `DrainRequest` wishes an empty node, another one that takes no new worker. What
            it leaves out stays as it is, if the wish does.
        now: the present instant.
    """
    wish = NodeWish.DRAINING if isinstance(request, DrainRequest) else NodeWish.CORDONED
    order = old
    if order is None or order.wish is not wish:
        order = NodeOrder(node_id=node_id, wish=wish, at=now)
    update: dict[str, object] = {}
    if "reason" in request.model_fields_set and request.reason != order.reason:
        update["reason"] = request.reason
    if isinstance(request, DrainRequest) and "deadline_s" in request.model_fields_set:
        deadline_s = request.deadline_s
        deadline_at = None if deadline_s is None else now + timedelta(seconds=deadline_s)
        if deadline_at != order.deadline_at:
            update["deadline_at"] = deadline_at
    return order.model_copy(update=update) if update else order


def node_state(record: NodeRecord | None, order: NodeOrder | None, n_workers: int) -> NodeState:
    """A node's state as an operator sees it.

    Args:
        record: its last heartbeat; None = it does not report.
        order: what an operator wants of it; None = nothing.
        n_workers: workers placed on it.
    """
    if record is None:
        return NodeState.LOST
    if order is not None and order.wish is NodeWish.DRAINING:
        return NodeState.DRAINING if n_workers else NodeState.DRAINED
    if record.restarting:
        return NodeState.RESTARTING
    return NodeState.CORDONED if order is not None else NodeState.READY
