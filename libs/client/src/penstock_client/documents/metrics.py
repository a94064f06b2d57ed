"""The load of an endpoint, now and in the last hour."""

from collections.abc import Mapping

from pydantic import AwareDatetime

from penstock_client.documents.base import Document
from penstock_client.documents.endpoints import Load
from penstock_common.states import WorkerState


class MetricsPoint(Document):
    """What happened in one step, over all routers."""

    #: when it began
    at: AwareDatetime
    #: requests that came, and so many a second
    requests: int
    requests_per_s: float
    #: requests that ended at a worker, and those of them that the worker broke off
    completed: int
    errors: int
    #: requests that were answered 429 or 503 instead of getting a slot
    refused: int
    #: most at once
    waiting: int
    in_flight: int
    #: seconds
    oldest_wait_s: float
    #: state → workers at its end
    workers: Mapping[WorkerState, int]
    #: seconds at a worker that so many of 100 recent requests did not exceed, as of its end, newer
    #: ones counting more; null = none was served of late
    service_p50_s: float | None
    service_p90_s: float | None
    service_p99_s: float | None
    #: seconds from the dispatch to the first byte of the answer's body, likewise
    first_byte_p50_s: float | None
    first_byte_p90_s: float | None
    first_byte_p99_s: float | None


class EndpointMetrics(Document):
    """The load of an endpoint as one api process has heard it."""

    endpoint_id: str
    #: now
    at: AwareDatetime
    load: Load
    #: state → workers now
    workers: Mapping[WorkerState, int]
    #: what was asked for
    window_s: int
    step_s: int
    #: steps that are over, ascending; they begin when this api process did, if that is within the
    #: window
    points: tuple[MetricsPoint, ...]
