"""One endpoint at this router: its slots here, its waiting clients, and its counters."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from penstock_common.messages import Ticket
from penstock_common.sketch import DecayedSketch
from penstock_common.states import TicketOutcome
from penstock_router.admission import CLEAR, Condition, Refusal, WaitingList
from penstock_router.catalogue import Address
from penstock_router.loans import Loan
from penstock_router.picker import Policy
from penstock_router.slots import SlotTable

#: How a request at a worker ended, as `messages.Release` names it.
LeaseOutcome = Literal["ok", "error", "connect_failed", "cancelled"]

#: Weight of the newest service time in their decayed mean.
_NEWEST: float = 0.1


@dataclass(slots=True)  # not frozen: one is made per request
class SlotLease:
    """A slot that a request of this router holds; to be finished exactly once."""

    lease_id: str
    endpoint_id: str
    worker_id: str
    #: where the worker listens
    address: Address
    #: the router that counts the slot
    driver_id: str
    #: seconds that the request waited for it
    waited_s: float
    #: whether no worker ran when it began to wait
    cold: bool
    #: monotonic seconds
    dispatched_at: float
    #: what `driver_id` lent; None = this router counts the slot
    loan: Loan | None = None
    #: monotonic seconds at the first byte of the answer's body; None = it has not come, or all of
    #: the body came with it
    first_byte_at: float | None = None


@dataclass(slots=True)
class Waiter:
    """A client that waits: its ticket, and where the answer goes."""

    ticket: Ticket
    #: monotonic seconds since when it waits, over all attempts
    since: float
    cold: bool
    answer: asyncio.Future[SlotLease | Refusal]
    #: whether other routers may see the ticket
    published: bool = False

    @property
    def given(self) -> SlotLease | Refusal | None:
        """The answer, if there is one (also when the client left in the meantime)."""
        if self.answer.done() and not self.answer.cancelled():
            return self.answer.result()
        return None


@dataclass(slots=True)
class Driven:
    """What the slot table does not need to know of a worker that is driven here."""

    #: where it listens, or did last; None before it ever ran
    address: Address | None
    #: revision in KV of the assignment that was applied last
    revision: int
    #: whether every slot of it that is out is known here
    counted: bool = True


@dataclass(slots=True)
class Lane:
    """State of one endpoint."""

    endpoint_id: str
    slots: SlotTable
    waiting: WaitingList = field(default_factory=WaitingList)
    waiters: dict[str, Waiter] = field(default_factory=dict)
    #: leases that requests of this router hold, own slots and borrowed ones
    leases: dict[str, SlotLease] = field(default_factory=dict)
    driven: dict[str, Driven] = field(default_factory=dict)
    condition: Condition = CLEAR
    #: whether this router drives every worker there is: then nobody else can serve its tickets
    sole: bool = False
    arrivals_total: int = 0
    completions_total: int = 0
    #: of those completed, requests that their worker broke off
    errors_total: int = 0
    service_time_s: float | None = None
    #: the same times, for quantiles: of requests whose answer's body came all at once, and of others
    whole_times: DecayedSketch = field(default_factory=DecayedSketch)
    apart_times: DecayedSketch = field(default_factory=DecayedSketch)
    #: times to the first byte of a body that came in pieces; of the others it came at their end
    begun_times: DecayedSketch = field(default_factory=DecayedSketch)
    #: since when a slot is free while somebody waits; None = that is not so
    stalled_since: float | None = None
    #: whether the reporter has been told that there is something to report
    changed: bool = False

    @classmethod
    def empty(cls, endpoint_id: str, policy: Policy) -> "Lane":
        """A lane in which nothing has happened yet."""
        return cls(endpoint_id, SlotTable(policy))

    @property
    def accepts(self) -> bool:
        """Whether slots of any worker are given out here."""
        return any(map(self.slots.accepting, self.driven))

    @property
    def over(self) -> bool:
        """Whether nothing waits, is in flight or is driven here."""
        return not self.waiters and not self.leases and not any(self.slots.worker_ids())

    def enqueue(self, waiter: Waiter, *, now: float) -> None:
        """Let this client wait behind all others."""
        self.waiting.enqueue(waiter.ticket.ticket_id, now=now)
        self.waiters[waiter.ticket.ticket_id] = waiter

    def end_ticket(self, ticket_id: str, outcome: TicketOutcome, *, now: float) -> Waiter | None:
        """End a ticket; None when it does not wait (any more)."""
        if self.waiting.end(ticket_id, outcome, now=now) is None:
            return None
        return self.waiters.pop(ticket_id)

    def head(self) -> Waiter | None:
        """The client that waits longest and has no answer yet."""
        first = self.waiting.head
        if first is not None and not self.waiters[first].answer.done():
            return self.waiters[first]  # as good as always; a copy of the line would be long
        waiters = (self.waiters[ticket_id] for ticket_id in self.waiting)
        return next((waiter for waiter in waiters if not waiter.answer.done()), None)

    def waits(self, ticket_id: str) -> bool:
        """Whether this ticket's client is there and has no answer yet."""
        waiter = self.waiters.get(ticket_id)
        return waiter is not None and not waiter.answer.done()

    def count_end(
        self, outcome: LeaseOutcome, service_time_s: float, first_byte_s: float | None = None
    ) -> None:
        """Count a request that ended at its worker; one that never reached it does not count.

        Args:
            outcome: how it ended.
            service_time_s: from the dispatch to the end of its answer.
            first_byte_s: from the dispatch to the first byte of the answer's body; None = there was
                none, or, of a request that was served, it came with the last.
        """
        if outcome == "connect_failed":
            return
        self.completions_total += 1
        self.errors_total += outcome == "error"
        if first_byte_s is None and outcome == "ok":
            self.whole_times.add(service_time_s)  # for both, so that most requests cost one entry
        else:
            self.apart_times.add(service_time_s)
            if first_byte_s is not None:
                self.begun_times.add(first_byte_s)
        if self.service_time_s is None:
            self.service_time_s = service_time_s
        else:
            self.service_time_s += _NEWEST * (service_time_s - self.service_time_s)
