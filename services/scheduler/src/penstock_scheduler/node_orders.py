"""What operators' orders mean for nodes: who takes no new worker, whose workers leave [pure].

A worker on a node that drains is replaced as one of an older revision is (`rollout.py`): a new one
runs elsewhere first, then it is drained, then stopped. Where no other node has room it stays and
serves, until room comes, the order is taken back, or the order's deadline has passed.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from penstock_common.messages import NodeOrder, NodeRecord
from penstock_common.states import NodeState, NodeWish


def closed_nodes(
    nodes: Mapping[str, NodeRecord], orders: Mapping[str, NodeOrder]
) -> dict[str, NodeState]:
    """Node → why it takes no new worker: `cordoned`, `draining` or `restarting`; else it does."""
    closed = {
        node_id: NodeState.RESTARTING for node_id, record in nodes.items() if record.restarting
    }
    closed |= {node_id: NodeState(order.wish) for node_id, order in orders.items()}
    return closed


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
    nodes: Mapping[str, NodeRecord], orders: Mapping[str, NodeOrder], occupied: Iterable[str]
) -> frozenset[str]:
    """Nodes that report, are to be empty and are.

    Args:
        nodes: the nodes that report.
        orders: the operators' orders.
        occupied: nodes with a worker, or with one that nobody saw end.
    """
    draining = {node_id for node_id in nodes if is_draining(orders, node_id)}
    return frozenset(draining.difference(occupied))
