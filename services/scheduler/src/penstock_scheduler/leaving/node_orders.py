"""What operators' orders mean for nodes: who takes no new worker, whose workers leave [pure].

A worker on a node that drains is replaced as one of an older revision is (`rollout.py`): a new one
runs elsewhere first, then it is drained, then stopped. Where no other node has room it stays and
serves, until room comes, the order is taken back, or the order's deadline has passed.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from penstock_common.messages import NodeOrder, NodeRecord
from penstock_common.states import NodeState, NodeWish


def closed_by(record: NodeRecord, order: NodeOrder | None) -> NodeState | None:
    """Why a node takes no new worker: `cordoned`, `draining` or `restarting`; None = it does."""
    if order is not None:
        return NodeState(order.wish)
    return NodeState.RESTARTING if record.restarting else None


def closed_nodes(
    nodes: Mapping[str, NodeRecord], orders: Mapping[str, NodeOrder]
) -> dict[str, NodeState]:
    """Those of the nodes that take no new worker, and why."""
    closed = {node_id: closed_by(record, orders.get(node_id)) for node_id, record in nodes.items()}
    return {node_id: state for node_id, state in closed.items() if state is not None}


def is_draining(orders: Mapping[str, NodeOrder], node_id: str) -> bool:
    """Whether the node is to be empty."""
    order = orders.get(node_id)
    return order is not None and order.wish is NodeWish.DRAINING


def is_overdue(orders: Mapping[str, NodeOrder], node_id: str, utc: datetime) -> bool:
    """Whether the node's workers are to go though nothing replaces them."""
    order = orders.get(node_id)
    return (
        order is not None
        and order.wish is NodeWish.DRAINING
        and order.deadline_at is not None
        and order.deadline_at <= utc
    )


def drained_nodes(
    nodes: Mapping[str, NodeRecord],
    orders: Mapping[str, NodeOrder],
    is_occupied: Callable[[str], bool],
) -> frozenset[str]:
    """Nodes that report, are to be empty and are.

    Args:
        nodes: the nodes that report.
        orders: the operators' orders.
        is_occupied: whether a node has a worker, or one that nobody saw end.
    """
    return frozenset(
        node_id
        for node_id in orders
        if node_id in nodes and is_draining(orders, node_id) and not is_occupied(node_id)
    )
