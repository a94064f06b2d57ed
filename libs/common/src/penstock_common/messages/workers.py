"""A worker: as the scheduler wants it, and as its node agent sees it."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_common.messages.base import Message, WithSpec
from penstock_common.states import DesiredState, Phase, WorkerReason, WorkerState


class WorkerAssignment(WithSpec):
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
    #: the image's digest, once a worker of the revision has told it; null = resolve the tag
    image_digest: str | None = None
    #: what those are called; null = it has none
    gpu_product: str | None = None
    #: the API key that its endpoint belongs to
    owner: str | None = None
    #: set = its end was decided without its node's word; it is removed next
    ended_at: AwareDatetime | None = None
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


class HealthProblem(Message):
    """Why a worker that starts is not healthy yet, as its last probes tell."""

    #: one sentence, e.g. `GET /health on port 8000 answered 404`; nothing else of the answer
    message: str
    #: which field to change, or what in the image; null = it may yet come by itself
    fix: str | None = None
    #: since when the probes tell this
    since: AwareDatetime


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
    #: digest of the image that it runs, `sha256:…`; null = not known yet, or the image has none
    image_digest: str | None = None
    #: one sentence, when the image is not what its registry says of the tag now
    image_note: str | None = None
    #: `starting`: why it is not healthy yet; null = it is too early to tell
    health_problem: HealthProblem | None = None
    exit_code: int | None = None
    #: last 20 lines it wrote; filled when it failed
    log_tail: tuple[str, ...] = ()
    updated_at: AwareDatetime
