"""Data of events that is no record of its own (`penstock_common.events.catalogue` says whose it is).

Who keeps an event for days may meet one of an older or newer Penstock: like every message these
ignore what they do not know, within their sections as well.
"""

from typing import Self

from pydantic import AwareDatetime
from typing_extensions import override

from penstock_common.messages.base import Message
from penstock_common.messages.endpoints import EndpointRecord, RevisionCause, ScaleDecision
from penstock_common.messages.node_orders import NodeOrder
from penstock_common.messages.nodes import Gpu
from penstock_common.specs import (
    GpuSpec,
    HealthSpec,
    ImageSpec,
    PlacementSpec,
    QueueSpec,
    ScalingSpec,
    StorageSpec,
    WorkersSpec,
)
from penstock_common.states import GpuReason


class EndpointNews(Message):
    """An endpoint as its owner wants it from now on.

    Of its environment and its secrets only the names are told: events travel further than the api's
    answers.
    """

    endpoint_id: str
    app_name: str
    name: str
    #: id of the API key that made it; null = nobody's
    owner: str | None = None
    #: counts the changes of what runs, from 1
    revision: int
    #: how this revision came to be, and when; of a rollback that nobody asked for also why
    revision_cause: RevisionCause
    revision_why: str | None = None
    revised_at: AwareDatetime
    #: the template that it was made from
    template_id: str | None = None
    paused: bool
    #: set = the present revision is a canary: it gets so many of 100 requests …
    canary_percent: int | None = None
    #: … and this earlier one the others
    stable_revision: int | None = None
    public: bool
    image: ImageSpec
    gpu: GpuSpec
    workers: WorkersSpec
    scaling: ScalingSpec
    placement: PlacementSpec
    queue: QueueSpec
    health: HealthSpec
    storage: StorageSpec
    #: names of the variables of its environment
    env: tuple[str, ...]
    #: names of its secrets
    secrets: tuple[str, ...]
    created_at: AwareDatetime
    updated_at: AwareDatetime
    #: set = it is being deleted
    deleted_at: AwareDatetime | None = None

    @classmethod
    def of(cls, record: EndpointRecord) -> Self:
        """What is told of this record."""
        spec, canary = record.spec, record.canary
        return cls(
            endpoint_id=record.endpoint_id,
            app_name=spec.app_name,
            name=spec.name,
            owner=record.owner,
            revision=record.revision,
            revision_cause=record.revision_cause,
            revision_why=record.revision_why,
            revised_at=record.revised_at or record.created_at,
            template_id=record.template_id,
            paused=record.paused,
            canary_percent=canary.percent if canary else None,
            stable_revision=canary.stable if canary else None,
            public=spec.public,
            image=spec.image,
            gpu=spec.gpu,
            workers=spec.workers,
            scaling=spec.scaling,
            placement=spec.placement,
            queue=spec.queue,
            health=spec.health,
            storage=spec.storage,
            env=tuple(sorted(spec.env)),
            secrets=tuple(sorted(spec.secrets)),
            created_at=record.created_at,
            updated_at=record.updated_at,
            deleted_at=record.deleted_at,
        )

    @classmethod
    @override
    def decode(cls, data: bytes) -> Self:
        """As for every message; what a newer Penstock says in the sections is ignored, too."""
        return cls.model_validate_json(data, extra="ignore")


class ScaleDecided(ScaleDecision):
    """A decision of the autoscaler, and whose."""

    endpoint_id: str


class WorkerAssigned(Message):
    """A worker is to start, and where."""

    worker_id: str
    endpoint_id: str
    node_id: str
    revision: int
    #: NVML UUIDs of the GPUs that belong to it alone
    gpus: tuple[str, ...] = ()


class NodeOrdered(Message):
    """What an operator wants of a node from now on."""

    node_id: str
    #: null = nothing any more: it takes workers
    order: NodeOrder | None = None


class NodeDrained(Message):
    """A node that was to be empty is."""

    node_id: str


class NodeLost(Message):
    """A node is silent for too long, and counts as gone."""

    node_id: str
    #: how many workers are lost with it
    workers: int


class GpuNews(Message):
    """A GPU went bad, or is healthy again."""

    node_id: str
    hostname: str
    #: as it is now; its `reason` and `message` say what went bad
    gpu: Gpu
    #: what was wrong before; null = it was healthy, or is new
    before: GpuReason | None = None


class ImageRemoved(Message):
    """A node agent removed an image that nothing used."""

    node_id: str
    #: the engine's id of it
    image_id: str
    #: what it was called there
    references: tuple[str, ...]
    #: its size, layers that other images share included
    size_bytes: int
    #: the disk of the engine's images, and what was free on it
    disk_total_bytes: int
    free_before_bytes: int
    #: null = could not be read
    free_after_bytes: int | None = None
