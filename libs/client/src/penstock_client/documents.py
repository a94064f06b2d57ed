"""What the api answers: one frozen model per document, shared by the api and its clients.

The api builds its answers from these models, so the two cannot disagree. A client parses with
`Document.of`, which ignores fields of a newer api and keeps the JSON as it came in `raw`.
Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes; instants are aware UTC.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr

from penstock_common.messages import (
    GapReason,
    KeyScope,
    OutputName,
    PrewarmState,
    RevisionCause,
    RuntimeKind,
    ScaleDecision,
)
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
    GpuReason,
    NodeState,
    NodeWish,
    WorkerReason,
    WorkerState,
)
from penstock_common.volumes import VolumeSource


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


class EndpointDocument(Document):
    """An endpoint: what its owner wrote, and what became of it."""

    id: str
    #: id of the API key that made it; null = nobody's
    owner: str | None = None
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
    #: digest of the image that every worker of the present revision runs; null = none has told yet
    image_digest: str | None = None
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
    """Endpoints, oldest first: all, or a page of them."""

    endpoints: tuple[EndpointDocument, ...]
    #: begins the next page; null = this is the last
    next_cursor: str | None = None


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
    #: digest of the image that it runs; null = not known yet, or it has none
    image_digest: str | None = None
    #: one sentence, when the image is not what its registry says of the tag now
    image_note: str | None = None
    exit_code: int | None
    log_tail: tuple[str, ...]


class WorkerList(Document):
    """The workers of one endpoint, oldest first."""

    workers: tuple[WorkerDocument, ...]


class GpuDocument(Document):
    """One GPU of a node, or one MIG instance; a measure is null where it does not tell."""

    uuid: str
    product: str
    vram_bytes: int
    healthy: bool
    #: why it is not healthy, so that no worker gets it; null = it is
    reason: GpuReason | None
    #: the same in one sentence
    message: str | None
    #: of a MIG instance: UUID of the GPU that it is a part of
    parent: str | None
    #: GPUs of a node with the same group share an NVLink domain or PCIe switch
    link_group: int
    #: NUMA node of the machine that is closest to it
    numa_node: int | None
    memory_used_bytes: int | None
    #: share of the last moments in which a kernel ran, 0 to 1
    utilization_ratio: float | None
    temperature_c: int | None
    power_w: float | None
    #: memory errors that ECC could not correct, since the last reset
    uncorrectable_errors: int | None
    #: error codes (XIDs) that the driver told since the agent started, the latest last
    xids: tuple[int, ...]
    #: the worker that holds it; null = free
    worker_id: str | None


class NodeOrderDocument(Document):
    """What an operator wants of a node."""

    wish: NodeWish
    reason: str
    at: AwareDatetime
    #: `draining`: from then on workers are drained though nothing replaces them; null = never
    deadline_at: AwareDatetime | None


class EngineProblemDocument(Document):
    """Why a node's engine cannot start or end workers at present."""

    message: str
    since: AwareDatetime
    #: true = its disk is full; else it does not answer
    full: bool


class NodeDocument(Document):
    """A node, and who holds its GPUs; what only its agent can say is null while it is `lost`."""

    id: str
    state: NodeState
    #: null = none: it takes workers
    order: NodeOrderDocument | None
    hostname: str | None
    #: address on which its workers are reached
    address: str | None
    runtime: RuntimeKind | None
    #: set = no worker is placed on it
    engine_problem: EngineProblemDocument | None
    gpus: tuple[GpuDocument, ...]
    gpus_total: int
    #: healthy and held by no worker
    gpus_free: int
    #: true = the GPUs are an operator's list, not NVML's
    static_gpus: bool
    driver_version: str | None
    cuda_version: str | None
    cpu_count: int | None
    #: processes that run or want to, mean of a minute; null = not known, as below
    load_1m: float | None
    memory_bytes: int | None
    #: of it what new processes can have
    memory_available_bytes: int | None
    #: the disk of the agent's data
    disk_bytes: int | None
    disk_free_bytes: int | None
    labels: Mapping[str, str]
    #: host paths that its operator lets network volumes lie in
    volume_paths: tuple[str, ...] = ()
    #: what else of network volumes it can mount: `nfs`, `driver_options`
    volume_kinds: tuple[str, ...] = ()
    version: str | None
    started_at: AwareDatetime | None
    #: ids of the workers placed on it
    workers: tuple[str, ...]


class NodeDetail(NodeDocument):
    """A node with what is known of each of its workers."""

    worker_details: tuple[WorkerDocument, ...]


class NodeList(Document):
    """The nodes that report, have workers, or have an order; by id."""

    nodes: tuple[NodeDocument, ...]


class CordonRequest(BaseModel):
    """Why a node is to take no new worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: for people
    reason: Annotated[str, Field(max_length=500, strict=True)] = ""


class DrainRequest(CordonRequest):
    """Why a node is to be empty, and for how long its workers may wait for another place."""

    #: seconds after which they are drained though nothing replaces them; null = never
    deadline_s: Annotated[float, Field(ge=0, le=31 * 86_400, strict=True)] | None = None


class RegistryAuthDocument(Document):
    """Credentials of an image registry; the password is never shown."""

    id: str
    name: str
    username: str
    created_at: AwareDatetime


class RegistryAuthList(Document):
    """The registry auths, oldest first."""

    registry_auths: tuple[RegistryAuthDocument, ...]


class VolumeDocument(Document):
    """A network volume, and who names it."""

    id: str
    name: str
    source: VolumeSource
    #: `app_name`s of the endpoints whose document names it
    endpoints: tuple[str, ...]
    created_at: AwareDatetime
    updated_at: AwareDatetime


class VolumeList(Document):
    """The network volumes, oldest first."""

    volumes: tuple[VolumeDocument, ...]


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


class ApiKeyDocument(Document):
    """An API key; the key itself is shown once, when it is made."""

    id: str
    name: str
    scope: KeyScope
    #: for `invoke`: the endpoints it may call; empty = all
    endpoint_ids: tuple[str, ...]
    #: most workers and GPUs that its endpoints may hold, all together; null = any number
    max_workers: int | None
    max_gpus: int | None
    #: what its endpoints hold now, workers that start, drain or stop included
    workers: int
    gpus: int
    created_at: AwareDatetime
    #: set = it opens nothing any more, and stays for the quota of the endpoints it has made
    revoked_at: AwareDatetime | None


class ApiKeyMade(ApiKeyDocument):
    """A key that was just made."""

    #: what to send as `Authorization: Bearer <key>`; shown this once
    key: str


class ApiKeyList(Document):
    """The API keys, oldest first."""

    api_keys: tuple[ApiKeyDocument, ...]


#: What usage is summed by.
GroupBy = Literal["endpoint", "key", "product", "worker"]


class UsageRow(Document):
    """What one group has used."""

    #: id of the endpoint, key or worker, or the product; null = none
    group: str | None
    #: `app_name` of the endpoint, name of the key
    name: str | None
    #: how many held something in this time
    workers: int
    #: seconds, summed over the workers
    worker_s: float
    #: seconds times GPUs
    gpu_s: float
    #: GPU-seconds at the price of their product; null = one of them has no price
    cost: float | None


class UsageReport(Document):
    """What was used in a time, by group, the largest first."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime
    group_by: GroupBy
    rows: tuple[UsageRow, ...]
    total: UsageRow
    #: product → price of one GPU for an hour, as set in the api now
    prices: Mapping[str, float]


class HealthDocument(Document):
    """The api process is alive, or ready."""

    status: Literal["ok"] = "ok"


class OpenApiDocument(Document):
    """The api's OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: Mapping[str, Any]
    paths: Mapping[str, Any]
    components: Mapping[str, Any]


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


class LogLineDocument(Document):
    """One line of a worker."""

    worker_id: str
    #: counts the worker's lines from 1
    n: int
    at: AwareDatetime
    stream: OutputName
    text: str
    #: it was longer than shown
    cut: bool = False


_WHY_MISSING: Final = {
    "too_fast": "written faster than they are kept",
    "behind": "NATS was away for too long",
    "rotated": "thrown away on the node before they were read",
    "dropped": "older than what is kept, or lost",
}


class LogGapDocument(Document):
    """Lines of a worker that are missing."""

    worker_id: str
    #: numbers of the first and the last one
    n: int
    last: int
    #: how many; null = nobody knows
    lines: int | None
    at: AwareDatetime | None
    #: `dropped`: the stream does not have them (any more); the others: see `GapReason`
    why: GapReason | Literal["dropped"]

    @property
    def sentence(self) -> str:
        """For a person: how many lines are missing, and why."""
        count = "some lines are" if self.lines is None else f"{self.lines} lines are"
        count = "1 line is" if self.lines == 1 else count
        return f"--- {count} missing: {_WHY_MISSING[self.why]} ---"


LogEntryDocument: TypeAlias = LogLineDocument | LogGapDocument


class LogEndDocument(Document):
    """No more lines come."""

    #: `ended`: the worker has, and all its lines were shown; `gone`: it is, and its node said no
    #: more; `deleted`: its endpoint is; `caught_up`: all that there is was shown, as asked for
    why: Literal["ended", "gone", "deleted", "caught_up"]
