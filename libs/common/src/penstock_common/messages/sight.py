"""What the api asks routers about its writes."""

from pydantic import Field

from penstock_common.messages.base import Message


class Sight(Message):
    """A write that a router answers for, with an empty message, once its tables show it.

    Sent by the api on `router_sight`, over core NATS.
    """

    bucket: str
    key: str
    #: least revision of the key to be shown; 0 = the key is to be gone
    revision: int = Field(ge=0)
