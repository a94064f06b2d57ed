"""Endpoints: what their owners wrote, what became of them, how they changed."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from penstock_client.documents.base import Document
from penstock_common.messages import (
    RevisionCause,
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
    EndpointReason,
    EndpointState,
)


class Load(Document):
    """Requests of an endpoint right now, summed over the routers that reported in the last 5 s."""

    #: requests that wait for a slot
    waiting: int
    #: requests that hold a slot
    in_flight: int
    #: seconds that the oldest waiting one has waited
    oldest_wait_s: float
    #: seconds at a worker that half of the recent requests do not exceed, 95 and 99 of 100; null = none
    #: was served in the last minutes
    service_p50_s: float | None = None
    service_p95_s: float | None = None
    service_p99_s: float | None = None
    #: seconds to the first byte of the answer's body, likewise
    first_byte_p50_s: float | None = None
    first_byte_p95_s: float | None = None
    #: requests that arrived, a second, over the last 10 s
    arrivals_per_s: float = 0.0


class CanaryDocument(Document):
    """How a canary and an earlier revision share the traffic."""

    #: of 100 requests, those that the present revision gets
    percent: int
    #: the revision that gets the others
    stable_revision: int


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
    #: set = the present revision is a canary, beside an earlier one
    canary: CanaryDocument | None = None
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


class PlannedChange(SpecChange):
    """One field of an endpoint document that a write would change."""

    #: whether it makes a new revision, whose workers replace those that run
    replaces_workers: bool


class PlanDocument(Document):
    """What a PUT of a document would do; nothing is done."""

    app_name: str
    #: there is no such endpoint yet
    creates: bool
    #: the revision that the endpoint would have
    revision: int
    #: whether that is a new one, whose workers replace those that run
    replaces_workers: bool
    #: by JSON pointer; of a new endpoint, all that is no default
    changes: tuple[PlannedChange, ...]
    #: names of the secrets that stay as they are
    secrets_kept: tuple[str, ...]


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


class CanaryRequest(BaseModel):
    """The share of a canary; `change`, a JSON merge patch, begins one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    percent: Annotated[int, Field(ge=1, le=99, strict=True)]
    change: Mapping[str, Any] | None = None


class DecisionList(Document):
    """How many workers were wanted when, and why; newest first."""

    decisions: tuple[ScaleDecision, ...]
