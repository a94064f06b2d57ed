"""Wire types: everything that travels over NATS or lies in it, as versioned pydantic models.

Unknown fields are ignored, so that a newer service can talk to an older one. Instants are aware
UTC; durations are seconds. A record's one writer is named in its docstring.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, field_validator

from penstock_common.specs import EndpointSpec, load_endpoint
from penstock_common.states import (
    DesiredState,
    EndpointReason,
    EndpointState,
    Phase,
    WorkerReason,
    WorkerState,
)

RuntimeKind = Literal["docker", "process"]
#: How a revision came to be.
RevisionCause = Literal["created", "updated", "rolled_back"]


class Message(BaseModel):
    """Base of the wire types: immutable, JSON, unknown fields ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def encode(self) -> bytes:
        """The message as JSON bytes."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message in these JSON bytes.

        Raises:
            pydantic.ValidationError: they hold no such message.
        """
        return cls.model_validate_json(data)


class _WithSpec(Message):
    spec: EndpointSpec

    @field_validator("spec", mode="before")
    @classmethod
    def _lenient(cls, value: object) -> object:
        return load_endpoint(value) if isinstance(value, Mapping) else value


class EndpointRecord(_WithSpec):
    """An endpoint as its owner wants it. Bucket ENDPOINTS; written by the api."""

    endpoint_id: str
    #: counts the changes of what runs, from 1
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    #: set = its workers are being stopped; the api removes the record when all are gone
    deleted_at: AwareDatetime | None = None
    paused: bool = False
    #: how and when this revision came to be; null = with the endpoint
    revision_cause: RevisionCause = "created"
    revised_at: AwareDatetime | None = None
    #: set by a rollback that nobody asked for: how the revision before it failed
    revision_why: str | None = None
    #: earlier revisions that run the very same; their workers are not replaced
    same_as: tuple[int, ...] = ()

    def runs(self, revision: int) -> bool:
        """Whether a worker of this revision runs what the present one wants."""
        return revision == self.revision or revision in self.same_as


class RevisionRecord(_WithSpec):
    """A past revision. Bucket REVISIONS, `<endpoint_id>.<revision>`; written by the api."""

    endpoint_id: str
    revision: int
    created_at: AwareDatetime
    cause: RevisionCause
    why: str | None = None
    same_as: tuple[int, ...] = ()


class EndpointStatus(Message):
    """What became of an endpoint. Bucket ENDPOINT_STATUS; written by the scheduler."""

    endpoint_id: str
    state: EndpointState
    reason: EndpointReason | None = None
    #: one sentence for a person: which nodes lack what, how the last start failed
    message: str | None = None
    revision: int
    desired_workers: int = 0
    workers_running: int = 0
    workers_starting: int = 0
    workers_draining: int = 0
    #: `crash_backoff`: when the next start is tried
    retry_at: AwareDatetime | None = None
    exit_code: int | None = None
    #: last lines of the worker that failed last
    log_tail: tuple[str, ...] = ()
    #: the last revision of which a worker stayed healthy; null = none yet
    good_revision: int | None = None
    #: the present revision, once it has proved that it cannot start while an earlier one could: the
    #: api rolls back
    failed_revision: int | None = None
    fencing_token: int
    updated_at: AwareDatetime


class ScaleInputs(Message):
    """What one decision of the autoscaler was made on."""

    #: policy and its value
    policy: str
    value: float
    #: limits at that instant; `least` is `workers.min` or what a schedule raised it to
    least: int
    most: int
    waiting: int
    oldest_wait_s: float
    in_flight: int
    running: int
    starting: int
    #: arrivals that were reckoned with, over how many seconds they were counted, and whether that
    #: was the short window because a burst came
    arrivals_per_s: float
    window_s: float
    burst: bool
    #: mean time at a worker; null = none measured
    service_time_s: float | None = None
    #: usual time of a start
    start_s: float
    #: how long the last request would have waited without another start; null = for ever, or
    #: nothing was predicted
    predicted_wait_s: float | None = None


class ScaleDecision(Message):
    """The desired number of an endpoint's workers changed."""

    at: AwareDatetime
    before: int
    after: int
    #: one sentence for a person
    why: str
    #: null = the load did not matter: the endpoint was paused or deleted
    inputs: ScaleInputs | None = None


class ScaleHistory(Message):
    """An endpoint's last decisions. Bucket SCALE_HISTORY; written by the scheduler."""

    endpoint_id: str
    #: newest first
    decisions: tuple[ScaleDecision, ...] = ()
    fencing_token: int


class WorkerAssignment(_WithSpec):
    """A worker as the scheduler wants it. Bucket WORKERS; written by the scheduler (leader).

    A record whose `fencing_token` is lower than one already seen for the same worker comes from a
    deposed leader and is ignored.
    """

    worker_id: str
    node_id: str
    endpoint_id: str
    revision: int
    #: NVML UUIDs that belong to this worker alone
    gpus: tuple[str, ...] = ()
    #: the router that counts this worker's slots
    driver: str | None = None
    #: counts the worker's drivers, from 1: what an earlier driver gave out is void
    driver_epoch: int = 1
    desired: DesiredState = DesiredState.RUNNING
    #: why it is to drain or stop
    reason: WorkerReason | None = None
    fencing_token: int
    decided_at: AwareDatetime
    assigned_at: AwareDatetime


class WorkerStatus(Message):
    """A worker as its node agent sees it. Bucket WORKER_STATUS; written by the node agent."""

    worker_id: str
    node_id: str
    endpoint_id: str
    revision: int
    state: WorkerState
    reason: WorkerReason | None = None
    #: one sentence for a person
    message: str | None = None
    #: where its HTTP server listens, from `running` on
    host: str | None = None
    port: int | None = None
    #: when each phase of its start was reached
    phases: Mapping[Phase, AwareDatetime] = {}
    #: bytes of its image that have come, of those known to be needed; null = nothing was pulled
    pull_bytes: int | None = None
    pull_total_bytes: int | None = None
    exit_code: int | None = None
    #: last 20 lines it wrote; filled when it failed
    log_tail: tuple[str, ...] = ()
    updated_at: AwareDatetime


class Gpu(Message):
    """One GPU of a node."""

    #: NVML UUID, or `static-<n>` from a static list
    uuid: str
    #: `<model>-<vram>gb` in lower case, e.g. `rtx-4090-24gb`
    product: str
    vram_bytes: int
    healthy: bool = True
    #: GPUs with the same group share an NVLink domain or PCIe switch
    link_group: int = 0


class NodeRecord(Message):
    """A node's heartbeat. Bucket NODES, expiring; written by its node agent."""

    node_id: str
    hostname: str
    #: address on which its workers are reached
    address: str
    runtime: RuntimeKind
    gpus: tuple[Gpu, ...] = ()
    #: true = `gpus` is an operator's list, not NVML's
    static_gpus: bool = False
    driver_version: str | None = None
    #: highest CUDA version that the driver supports, e.g. "12.8"
    cuda_version: str | None = None
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    #: image references on the node
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    version: str
    started_at: AwareDatetime
    #: counts heartbeats since the start
    beat: int


class RouterRecord(Message):
    """A router's heartbeat. Bucket ROUTERS, expiring; written by the router."""

    router_id: str
    hostname: str
    #: where clients reach it, e.g. `http://127.0.0.1:8080`
    url: str
    version: str
    started_at: AwareDatetime
    beat: int
    #: true = it has nothing in flight any more and ends; its record goes next
    left: bool = False


class ApiKeyRecord(Message):
    """A key's hash and rights. Bucket API_KEYS; written by the api."""

    key_id: str
    #: SHA-256 of the key, hex; keys have 256 random bits, so no slow hash is needed
    sha256: str
    scope: Literal["admin", "read", "invoke"]
    #: for `invoke`: the endpoints it may call; empty = all
    endpoint_ids: tuple[str, ...] = ()
    created_at: AwareDatetime


class RegistryAuthRecord(Message):
    """Credentials of an image registry. Bucket REGISTRY_AUTHS; written by the api."""

    registry_auth_id: str
    #: for people
    name: str
    username: str
    #: `password`, sealed; only node agents open it
    sealed: Mapping[str, str]
    created_at: AwareDatetime


class WorkerLoad(Message):
    """What a driver knows of one worker that it drives."""

    worker_id: str
    in_flight: int
    #: false = it gives out no slot of this worker (draining, ejected, not yet running)
    accepting: bool
    #: seconds since its last request ended (or since it was first seen running); 0 when busy
    idle_s: float
    #: revision in KV of the assignment that the driver has applied
    assignment_revision: int
    requests_total: int = 0


class QueueReport(Message):
    """One router's view of one endpoint. Core subject `metrics.queue.<endpoint_id>`.

    Sent at once when the queue goes from empty to waiting, else on change at most every 250 ms,
    and every second while anything waits, is in flight, or a worker of it is driven here.
    """

    router_id: str
    endpoint_id: str
    sent_at: AwareDatetime
    #: this router's clients that wait for a slot
    waiting: int
    #: seconds that the oldest of them has waited
    oldest_wait_s: float
    #: this router's clients that hold a slot
    in_flight: int
    #: counters since the router started
    arrivals_total: int
    completions_total: int
    #: decayed mean of the time between dispatch and the response's end; null = none measured yet
    service_time_s: float | None = None
    #: the workers that this router drives
    workers: tuple[WorkerLoad, ...] = ()


class Ticket(Message):
    """A synchronous request that waits for a slot. Stream TICKETS; written by its origin router."""

    ticket_id: str
    router_id: str
    endpoint_id: str
    enqueued_at: AwareDatetime
    deadline_at: AwareDatetime


class LentSlot(Message):
    """One slot of a worker, lent under a lease."""

    lease_id: str
    worker_id: str
    host: str
    port: int
    #: the driver's epoch at this worker
    epoch: int


class Grant(Message):
    """A driver offers another router slots: for a ticket of it, or ahead of need.

    Subject `router.<id>.grant`; the answer is a `GrantReply` on the message's reply subject.
    """

    driver_id: str
    #: names this run of the driver's process
    boot_id: str
    #: counts this run's offers to that router, from 1; one that was overtaken is void
    number: int
    endpoint_id: str
    #: the first slot is for this ticket; null = all are lent ahead
    ticket_id: str | None
    slots: tuple[LentSlot, ...]
    #: seconds for which an unused slot may be kept for further requests; 0 = it goes back when its
    #: request ends
    keep_s: float = 0.0


class GrantReply(Message):
    """Which of the offered slots the other router holds now; the others are free."""

    router_id: str
    #: names this run of the answering router's process; what another run held is free
    holder_boot_id: str
    lease_ids: tuple[str, ...]
    #: whether the ticket still waits, since its slot was not one that could be taken
    waits: bool = False


class Release(Message):
    """A lent slot is free again. Subject `router.<id>.release`. Safe to repeat."""

    lease_id: str
    endpoint_id: str
    worker_id: str
    #: how the last request ended
    outcome: Literal["ok", "error", "connect_failed", "cancelled"]
    #: requests that the slot served while it was lent
    n_requests: int = 1


class Recall(Message):
    """Clients wait at a driver: what it lent goes back as soon as no request uses it.

    Subject `router.<id>.recall`. Repeated while it holds; after `hold_s` without one, slots may be
    kept again. It is answered by lists of what is held (`HeldLeases`); with `hold_s` 0 those are
    all that is wanted.
    """

    driver_id: str
    endpoint_id: str
    #: null = slots of every worker of the endpoint
    worker_id: str | None = None
    hold_s: float


class HeldLeases(Message):
    """Every lease that this router holds of one driver, sent once a second.

    Subject `router.<id>.leases`.
    """

    router_id: str
    holder_boot_id: str
    lease_ids: tuple[str, ...]
    #: the run of the driver's process whose offers are numbered
    boot_id: str | None = None
    #: the highest number of an offer of that run that has come; one below it that comes later is
    #: refused, so what such an offer brought and is not in the list is over
    number: int = 0


class Claim(Message):
    """A router begins to drive a worker and asks who holds slots of it.

    Subject `router.<id>.claim`. Whoever gets it takes no slot of an earlier epoch any more, and
    answers with a `Tally`. Safe to repeat.
    """

    driver_id: str
    boot_id: str
    endpoint_id: str
    worker_id: str
    epoch: int


class Tally(Message):
    """What a router holds of a worker, as an answer to a `Claim`. Subject `router.<id>.tally`."""

    router_id: str
    holder_boot_id: str
    worker_id: str
    epoch: int
    lease_ids: tuple[str, ...]
    #: routers to which it lent slots while it was the worker's driver
    lent_to: tuple[str, ...] = ()


def cloud_event(
    *, event_id: str, event_type: str, source: str, subject: str, time: datetime
) -> dict[str, str]:
    """Headers of a CloudEvents 1.0 message in NATS binary mode; the payload is JSON data.

    Source: CloudEvents 1.0.2, NATS protocol binding, §3.1 (attributes as `ce-` headers).
    """
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": event_type,
        "ce-source": source,
        "ce-subject": subject,
        "ce-time": time.isoformat(),
        "content-type": "application/json",
    }
