"""What the api answers: one frozen model per document, shared by the api and its clients.

The api builds its answers from these models, so the two cannot disagree. A client parses with
`Document.of`, which ignores fields of a newer api and keeps the JSON as it came in `raw`.
Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes; instants are aware UTC.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr

from penstock_common.messages import RevisionCause, RuntimeKind, ScaleDecision
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
from penstock_common.states import (
    DesiredState,
    EndpointReason,
    EndpointState,
    WorkerReason,
    WorkerState,
)


class Document(BaseModel):
    """Base of the answers: immutable; a client ignores fields that it does not know."""

    model_config = ConfigDict(frozen=True)

    _raw: Mapping[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, value: object) -> Self:
        """The document in this parsed JSON.

        Raises:
            pydantic.ValidationError: it is no such document.
        """
        document = cls.model_validate(value, extra="ignore")
        if isinstance(value, Mapping):
            document._raw = value  # noqa: SLF001  # its own class
        return document

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON object as the api sent it, fields that this client does not know included."""
        return self.model_dump(mode="json") if self._raw is None else self._raw


class Load(Document):
    """Requests of an endpoint right now, summed over the routers that reported in the last 5 s."""

    #: requests that wait for a slot
    waiting: int
    #: requests that hold a slot
    in_flight: int
    #: seconds that the oldest waiting one has waited
    oldest_wait_s: float
    #: seconds at a worker that half of the recent requests do not exceed, and 95 of 100; null = none
    #: was served in the last minutes
    service_p50_s: float | None = None
    service_p95_s: float | None = None


class EndpointDocument(Document):
    """An endpoint: what its owner wrote, and what became of it."""

    id: str
    name: str
    app_name: str
    #: where its callers send requests
    url: str
    state: EndpointState
    #: why it is not plainly serving
    reason: EndpointReason | None
    #: the reason as one sentence for a person
    message: str | None
    revision: int
    #: the revision that could not start, while the api goes back from it
    failed_revision: int | None = None
    #: workers that answer requests
    workers_running: int
    workers_starting: int
    workers_draining: int
    #: how many workers the autoscaler wants
    workers_desired: int
    load: Load
    image: ImageSpec
    gpu: GpuSpec
    workers: WorkersSpec
    scaling: ScalingSpec
    placement: PlacementSpec = PlacementSpec()
    queue: QueueSpec
    health: HealthSpec
    storage: StorageSpec
    env: Mapping[str, str]
    #: names only: a secret's value is never shown
    secrets: tuple[str, ...]
    public: bool
    created_at: AwareDatetime
    updated_at: AwareDatetime
    #: set = it is being deleted
    deleted_at: AwareDatetime | None
    #: `crash_backoff`: when the next start is tried
    retry_at: AwareDatetime | None
    #: of the worker that failed last
    exit_code: int | None
    #: last lines of the worker that failed last
    log_tail: tuple[str, ...]


class EndpointList(Document):
    """All endpoints, oldest first."""

    endpoints: tuple[EndpointDocument, ...]


class SpecChange(Document):
    """One field of what runs that differs from the revision before."""

    #: JSON pointer into the endpoint document
    pointer: str
    #: null = not there; a secret's value is never shown, only that it changed
    before: Any = None
    after: Any = None


class RevisionDocument(Document):
    """One revision of an endpoint."""

    revision: int
    created_at: AwareDatetime
    cause: RevisionCause
    #: of a rollback that happened by itself: how the revision before it failed
    why: str | None
    #: earlier revisions that run the very same
    same_as: tuple[int, ...]
    #: the one that is wanted now
    present: bool
    #: null = the revision before is not kept any more, or there was none
    changes: tuple[SpecChange, ...] | None


class RevisionList(Document):
    """An endpoint's last 20 revisions, newest first."""

    revisions: tuple[RevisionDocument, ...]


class RollbackRequest(BaseModel):
    """To which revision; without one, to the one before the present."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: Annotated[int, Field(ge=1, strict=True)] | None = None


class DecisionList(Document):
    """How many workers were wanted when, and why; newest first."""

    decisions: tuple[ScaleDecision, ...]


class WorkerDocument(Document):
    """A worker: what the scheduler wants, what the node agent sees, what the driver counts."""

    id: str
    endpoint_id: str
    node_id: str
    revision: int
    desired: DesiredState
    #: `pending` until its node agent has seen it
    state: WorkerState
    reason: WorkerReason | None
    message: str | None
    #: NVML UUIDs
    gpus: tuple[str, ...]
    #: the router that counts its slots
    driver: str | None
    #: where its HTTP server listens, once running
    host: str | None
    port: int | None
    decided_at: AwareDatetime
    #: phase of the cold start → milliseconds after `decided_at`
    phases_ms: Mapping[str, float]
    #: bytes of its image that have come, of those known to be needed; null = nothing was pulled
    pull_bytes: int | None = None
    pull_total_bytes: int | None = None
    #: requests that hold a slot; null = its driver has not reported in the last 5 s
    in_flight: int | None
    #: seconds since its last request ended, 0 when busy; null as for `in_flight`
    idle_s: float | None
    exit_code: int | None
    log_tail: tuple[str, ...]


class WorkerList(Document):
    """The workers of one endpoint, oldest first."""

    workers: tuple[WorkerDocument, ...]


class GpuDocument(Document):
    """One GPU of a node."""

    uuid: str
    product: str
    vram_bytes: int
    healthy: bool
    #: the worker that holds it; null = free
    worker_id: str | None


class NodeDocument(Document):
    """A node whose agent reports, and who holds its GPUs."""

    id: str
    hostname: str
    #: address on which its workers are reached
    address: str
    runtime: RuntimeKind
    gpus: tuple[GpuDocument, ...]
    gpus_total: int
    #: healthy and held by no worker
    gpus_free: int
    #: true = the GPUs are an operator's list, not NVML's
    static_gpus: bool
    driver_version: str | None
    cuda_version: str | None
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    labels: Mapping[str, str]
    version: str
    started_at: AwareDatetime
    #: ids of the workers placed on it
    workers: tuple[str, ...]


class NodeList(Document):
    """The nodes whose agents report, by id."""

    nodes: tuple[NodeDocument, ...]


class RegistryAuthDocument(Document):
    """Credentials of an image registry; the password is never shown."""

    id: str
    name: str
    username: str
    created_at: AwareDatetime


class RegistryAuthList(Document):
    """The registry auths, oldest first."""

    registry_auths: tuple[RegistryAuthDocument, ...]


class HealthDocument(Document):
    """The api process is alive, or ready."""

    status: Literal["ok"] = "ok"


class ErrorItem(Document):
    """One thing wrong in a document: where (JSON pointer, RFC 6901) and what to do about it."""

    pointer: str
    message: str


class ProblemDocument(Document):
    """An error as RFC 9457 problem details (`application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    #: stable name of the error, for programs
    reason: str
    #: everything wrong in the request's document
    errors: tuple[ErrorItem, ...] = ()
