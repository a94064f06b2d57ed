"""Network volumes, and images pulled ahead of need."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_client.documents.base import Document
from penstock_common.messages import (
    PrewarmState,
)
from penstock_common.states import (
    WorkerReason,
)
from penstock_common.volumes import VolumeSource


class VolumeDocument(Document):
    """A network volume, and who names it."""

    id: str
    name: str
    source: VolumeSource
    #: labels of the nodes that reach the data; empty = every node that can mount it
    node_selector: Mapping[str, str] = {}
    #: GB that its users agreed on; held by nobody
    size_gb: int | None = None
    #: `app_name`s of the endpoints whose document names it
    endpoints: tuple[str, ...]
    created_at: AwareDatetime
    updated_at: AwareDatetime


class VolumeList(Document):
    """The network volumes, oldest first."""

    volumes: tuple[VolumeDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


class PrewarmProgress(Document):
    """How a prewarm is on one node."""

    node_id: str
    state: PrewarmState
    reason: WorkerReason | None = None
    #: one sentence for a person
    message: str | None = None
    pull_bytes: int | None = None
    pull_total_bytes: int | None = None
    image_digest: str | None = None
    #: null = its node agent has said nothing yet
    updated_at: AwareDatetime | None = None


class PrewarmDocument(Document):
    """An image that is to be on nodes ahead of need, and how far each node is."""

    id: str
    image: str
    registry_auth_id: str | None
    #: ids of nodes; empty = every node
    nodes: tuple[str, ...]
    #: only nodes with a GPU of one of these; empty = whatever they have
    products: tuple[str, ...]
    #: over all nodes; `pending` as long as there is none
    state: PrewarmState
    progress: tuple[PrewarmProgress, ...]
    created_at: AwareDatetime


class PrewarmList(Document):
    """The prewarms, oldest first."""

    prewarms: tuple[PrewarmDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None
