"""Workers: what is wanted, what their nodes see, what their drivers count."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_client.documents.base import Document
from penstock_common.states import (
    DesiredState,
    WorkerReason,
    WorkerState,
)


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
