"""What an operator wants of a node."""

from pydantic import AwareDatetime

from penstock_common.messages.base import Message
from penstock_common.states import NodeWish


class NodeOrder(Message):
    """An operator's order about a node. Bucket NODE_ORDERS; written by the api.

    It outlives the node's record; no order = the node takes workers.
    """

    node_id: str
    wish: NodeWish
    #: for people; empty = none given
    reason: str = ""
    #: when this was wished
    at: AwareDatetime
    #: `draining`: from then on workers are drained though nothing replaces them; null = never
    deadline_at: AwareDatetime | None = None
