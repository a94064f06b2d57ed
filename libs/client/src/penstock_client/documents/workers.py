"""Workers: what is wanted, what their nodes see, what their drivers count."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from penstock_client.documents.base import Document
from penstock_common.states import (
    DesiredState,
    WorkerReason,
    WorkerState,
)


class WorkerOrderDocument(Document):
    """An order to stop a worker; it cannot be taken back."""

    #: for people; empty = none given
    reason: str
    at: AwareDatetime
    #: from then on it is stopped though requests are in flight; null = they all end first
    deadline_at: AwareDatetime | None


class HealthProblemDocument(Document):
    """Why a worker that starts is not healthy yet, as its last probes tell."""

    #: one sentence, e.g. `GET /health on port 8000 answered 404`; nothing else of the answer
    message: str
    #: which field to change, or what in the image; null = it may yet come by itself
    fix: str | None
    #: since when the probes tell this
    since: AwareDatetime


class WorkerDocument(Document):
    """A worker: what the scheduler wants, what the node agent sees, what the driver counts."""

    id: str
    endpoint_id: str
    node_id: str
    revision: int
    desired: DesiredState
    #: set = somebody ordered it to stop
    order: WorkerOrderDocument | None = None
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
    #: `starting`: why it is not healthy yet; null = it is too early to tell
    health_problem: HealthProblemDocument | None = None
    exit_code: int | None
    log_tail: tuple[str, ...]


class WorkerList(Document):
    """Workers, oldest first."""

    workers: tuple[WorkerDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


class StopRequest(BaseModel):
    """Why a worker is to stop, and how long its requests in flight may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: for people
    reason: Annotated[str, Field(max_length=500, strict=True)] = ""
    #: seconds after which it is stopped though requests are in flight; null = they all end first
    deadline_s: Annotated[float, Field(ge=0, le=31 * 86_400, strict=True)] | None = None
