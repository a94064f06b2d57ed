"""What routers report of their queues, and the tickets that wait."""

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


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
    #: of those completed, requests that their worker broke off
    errors_total: int = 0
    #: requests that were answered 429 or 503 instead of getting a slot
    refused_total: int = 0
    #: decayed mean of the time between dispatch and the response's end; null = none measured yet
    service_time_s: float | None = None
    #: the same times in a sketch (`penstock_common.sketch`): (bucket, weight), ascending
    service_times: tuple[tuple[int, float], ...] = ()
    #: times from the dispatch to the first byte of the answer's body (of one without a body, of its
    #: head), likewise; requests that got no answer have none
    first_byte_times: tuple[tuple[int, float], ...] = ()
    #: the workers that this router drives
    workers: tuple[WorkerLoad, ...] = ()


class Ticket(Message):
    """A synchronous request that waits for a slot. Stream TICKETS; written by its origin router."""

    ticket_id: str
    router_id: str
    endpoint_id: str
    enqueued_at: AwareDatetime
    deadline_at: AwareDatetime
