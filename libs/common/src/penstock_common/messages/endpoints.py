"""An endpoint: as its owner wants it, what became of it, and what the autoscaler decided."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message, WithSpec
from penstock_common.specs import EndpointSpec
from penstock_common.states import EndpointReason, EndpointState

#: How a revision came to be.
RevisionCause = Literal["created", "updated", "rolled_back"]


class Canary(WithSpec):
    """The earlier revision that shares the traffic with the present one, the canary.

    Its `spec` counts for what runs alone; everything else is the present document's.
    """

    #: of 100 requests, those that the present revision gets, 1 to 99
    percent: int
    #: the revision that gets the others
    stable: int
    #: earlier revisions that run the very same as that one
    same_as: tuple[int, ...] = ()

    def runs(self, revision: int) -> bool:
        """Whether a worker of this revision runs what the stable one does."""
        return revision == self.stable or revision in self.same_as


class EndpointRecord(WithSpec):
    """An endpoint as its owner wants it. Bucket ENDPOINTS; written by the api."""

    endpoint_id: str
    #: id of the API key that made it: whose quota and whose usage it is; null = nobody's
    owner: str | None = None
    #: counts the changes of what runs, from 1
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    #: the template that it was made from
    template_id: str | None = None
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
    #: set = the present revision is a canary: an earlier one goes on beside it
    canary: Canary | None = None

    def runs(self, revision: int) -> bool:
        """Whether a worker of this revision runs what the present one wants."""
        return revision == self.revision or revision in self.same_as

    @property
    def specs(self) -> tuple[EndpointSpec, ...]:
        """The documents that workers are to run: the present one, and a canary's stable one."""
        return (self.spec,) if self.canary is None else (self.spec, self.canary.spec)

    def wants(self, revision: int) -> bool:
        """Whether a worker of this revision is to stay: it is present, or the canary's stable one."""
        return self.runs(revision) or (self.canary is not None and self.canary.runs(revision))


class RevisionRecord(WithSpec):
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
    #: revision → digest of the image that its first worker ran, of the last revisions; every later
    #: worker of the revision runs it
    image_digests: Mapping[int, str] = {}
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
    #: 95 of 100 requests took no longer there; null = none was served lately
    service_p95_s: float | None = None
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
