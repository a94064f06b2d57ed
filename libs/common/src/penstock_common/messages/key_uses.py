"""When API keys were used last."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class KeyUse(Message):
    """The last use of a key. Bucket KEY_USES; written by the api."""

    key_id: str
    #: late by a minute or so at most: a use within the minute after one that is written is not
    at: AwareDatetime


class KeyUseReport(Message):
    """Keys that a router has let requests in with. Core subject `key_uses.<router_id>`.

    Each at most once a minute. A report that is lost is made up for by the next use.
    """

    router_id: str
    #: id → last use
    used: Mapping[str, AwareDatetime]
