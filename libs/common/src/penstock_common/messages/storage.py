"""What outlives workers: network volumes, and images on nodes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime
from typing_extensions import override

from penstock_common.messages.base import Message
from penstock_common.states import WorkerReason
from penstock_common.volumes import VolumeSource


class VolumeRecord(Message):
    """A network volume. Bucket VOLUMES; written by the api."""

    volume_id: str
    #: for people
    name: str
    source: VolumeSource
    #: labels of the nodes that reach the data
    node_selector: Mapping[str, str] = {}
    #: GB that its users agreed on; null = they did not say
    size_gb: int | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @classmethod
    @override
    def decode(cls, data: bytes) -> Self:
        """As for every message; what a newer Penstock says of the source is ignored, too."""
        return cls.model_validate_json(data, extra="ignore")


class PrewarmRecord(Message):
    """An image that is to be on nodes ahead of need. Bucket PREWARMS; written by the api."""

    prewarm_id: str
    image: str
    #: credentials to pull with, by id
    registry_auth_id: str | None = None
    #: ids of nodes; empty = every node
    nodes: tuple[str, ...] = ()
    #: only nodes with a GPU of one of these products; empty = whatever they have
    products: tuple[str, ...] = ()
    #: for people
    note: str = ""
    created_at: AwareDatetime


class PrewarmState(StrEnum):
    """How an order to have an image is on one node, or on all together."""

    #: not begun, or to be tried again
    PENDING = "pending"
    #: being looked up or pulled
    PULLING = "pulling"
    #: the image is there
    DONE = "done"
    #: the last try failed; another one follows
    FAILED = "failed"


class PrewarmStatus(Message):
    """How a prewarm is on one node. Bucket PREWARM_STATUS; written by its node agent."""

    node_id: str
    prewarm_id: str
    state: PrewarmState
    reason: WorkerReason | None = None
    #: one sentence for a person
    message: str | None = None
    #: bytes of the image that have come, of those known to be needed; null = nothing was pulled
    pull_bytes: int | None = None
    pull_total_bytes: int | None = None
    #: null = not there yet, or the image has none
    image_digest: str | None = None
    updated_at: AwareDatetime
