"""Requests to slots: who gets one now, who waits, and where a freed slot goes.

Theory of operation. A `Lane` is one endpoint's state here. All changes happen in plain functions
on the event loop, so each is whole before the next begins; the only wait is a client's, for its
`Waiter.answer`. A waiting ticket gets its slot by exactly one of

- `dispatch_here`: this router drives a worker with a free slot, and it is the ticket's turn;
- `dispatch_loan`: another router lent a slot for it;
- `use_idle_loans`: another router lent slots ahead of need;
- `serve_locally`: NATS is away (or hands out nothing), and this router drives a free slot.

Whatever gives it, the first one wins, since the ticket leaves the waiting list with it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from typing import Final, Protocol

from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.messages import EndpointRecord, Ticket
from penstock_common.states import TicketOutcome
from penstock_router.admission import STOPPING, Admission, Refusal
from penstock_router.catalogue import Address, Catalogue
from penstock_router.lanes import Lane, LeaseOutcome, SlotLease, Waiter
from penstock_router.loans import Loan, Loans
from penstock_router.picker import Policy

#: Told to clients whose endpoint went away after they were let in.
GONE: Final = Refusal(503, "deleting", "The endpoint is deleted.")


class DispatchEvents(Protocol):
    """What the dispatcher tells the rest of the router; plain functions that do not raise."""

    def ticket_waits(self, ticket: Ticket, *, publish: bool) -> None:
        """A client waits; `publish` = its ticket is for other routers, too."""
        ...

    def slots_freed(self, endpoint_id: str) -> None:
        """A slot that this router drives is free."""
        ...

    def loan_ended(self, loan: Loan, outcome: LeaseOutcome) -> None:
        """A slot that another router counts goes back."""
        ...

    def load_changed(self, endpoint_id: str, *, urgent: bool) -> None:
        """Something that a queue report tells has changed."""
        ...

    def lane_made(self, endpoint_id: str) -> None:
        """A lane was made; it is to be brought to what the catalogue says."""
        ...


class Dispatcher:
    """The lanes of this router."""

    def __init__(
        self,
        *,
        router_id: str,
        catalogue: Catalogue,
        policy: Policy,
        clock: Clock,
        new_id: Callable[[str], str],
        events: DispatchEvents,
        loans: Loans,
        new_answer: Callable[[], asyncio.Future[SlotLease | Refusal]] | None = None,
    ) -> None:
        """A dispatcher without lanes.

        Args:
            router_id: of this router: it drives the workers that name it.
            catalogue: read whenever an endpoint is refreshed.
            policy: picks among free workers.
            clock: for waits and service times.
            new_id: a fresh id with this prefix.
            events: told what happens.
            loans: slots that other routers lent.
            new_answer: makes what a client that waits is answered by; None = of the running loop.
        """
        self.router_id = router_id
        self.lanes: dict[str, Lane] = {}
        self._catalogue = catalogue
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self._events = events
        self._loans = loans
        self._new_answer = new_answer or (lambda: asyncio.get_running_loop().create_future())
        #: lets nobody wait and gives out no slot
        self.stopping = False

    # ---- requests of this router's clients

    def try_acquire(
        self,
        endpoint: EndpointRecord,
        *,
        since: float | None = None,
        avoid: Collection[str] = (),
        affinity: str | None = None,
    ) -> SlotLease | Refusal | Waiter:
        """A slot for a request if one is free; never waits. Finish the slot exactly once.

        Args:
            endpoint: what is called.
            since: of a request that lost its worker: when it came first.
            avoid: workers at which it failed.
            affinity: key of requests that should meet at one worker; best effort.

        Returns:
            A slot; or why the request is not served; or its place among those who wait, whose
            `answer` will be one of the two, and which `leave` or `time_out` may end first.
        """
        if self._catalogue.endpoint(endpoint.endpoint_id) is None:
            return GONE
        lane = self.lanes.get(endpoint.endpoint_id) or self.lane(endpoint.endpoint_id)
        now = self._clock.monotonic()
        if (
            since is None
            and not (lane.waiters or self.stopping)
            and lane.condition.closed is None
            and (
                lease := self._try_own_slot(lane, now, now, avoid, affinity)
                or self._try_loan(lane, now, now, avoid)
            )
            is not None
        ):
            # The warm path, which `decide_admission` would let pass as well.
            lane.arrivals_total += 1
            return lease
        if since is None:
            lane.arrivals_total += 1
        decision = lane.waiting.decide_admission(
            slot_free=lane.slots.free > 0 or self._loans.idle(lane.endpoint_id) > 0,
            limits=endpoint.spec.queue,
            condition=STOPPING if self.stopping else lane.condition,
            again=since is not None,
        )
        since = now if since is None else since
        if isinstance(decision, Refusal):
            self._change(lane)
            return decision
        if decision is Admission.SLOT:
            lease = self._try_own_slot(lane, since, now, avoid, affinity) or self._try_loan(
                lane, since, now, avoid
            )
            if lease is not None:
                return lease
        return self._enqueue(lane, endpoint, since)

    def _enqueue(self, lane: Lane, endpoint: EndpointRecord, since: float) -> Waiter:
        now = self._clock.monotonic()
        left_s = max(0.0, since + endpoint.spec.queue.max_wait_s - now)
        utc = self._clock.utc()
        waiter = Waiter(
            ticket=Ticket(
                ticket_id=self._new_id(ids.TICKET),
                router_id=self.router_id,
                endpoint_id=lane.endpoint_id,
                enqueued_at=utc,
                deadline_at=utc + timedelta(seconds=left_s),
            ),
            since=since,
            cold=not self._catalogue.runs(lane.endpoint_id),
            answer=self._new_answer(),
        )
        lane.enqueue(waiter, now=now)
        self._events.load_changed(lane.endpoint_id, urgent=len(lane.waiting) == 1)
        if not lane.sole:
            waiter.published = True
        self._events.ticket_waits(waiter.ticket, publish=waiter.published)
        return waiter

    def publish_waiting(self, lane: Lane) -> None:
        """Other routers may serve this lane's clients from now on: publish their tickets."""
        for ticket_id in lane.waiting:
            waiter = lane.waiters[ticket_id]
            if not waiter.published and not waiter.answer.done():
                waiter.published = True
                self._events.ticket_waits(waiter.ticket, publish=True)

    def _change(self, lane: Lane) -> None:
        """Something to report; told once until the report goes out, since requests come often."""
        if not lane.changed:
            lane.changed = True
            self._events.load_changed(lane.endpoint_id, urgent=False)

    def leave(self, waiter: Waiter) -> None:
        """The client that waits is gone; a slot that it was just given goes back."""
        if isinstance(waiter.given, SlotLease):
            self.finish(waiter.given, "cancelled")
        self._end_waiting(waiter, TicketOutcome.CANCELLED)

    def time_out(self, waiter: Waiter, endpoint: EndpointRecord) -> None:
        """The client has waited long enough; changes nothing when it has its answer."""
        lane = self.lanes.get(waiter.ticket.endpoint_id)
        if lane is not None and not waiter.answer.done():
            waiter.answer.set_result(
                lane.waiting.refuse_waited(
                    waiter.ticket.ticket_id, endpoint.spec.queue, lane.condition
                )
            )
            self._end_waiting(waiter, TicketOutcome.EVICTED)

    def _end_waiting(self, waiter: Waiter, outcome: TicketOutcome) -> None:
        ticket = waiter.ticket
        lane = self.lanes.get(ticket.endpoint_id)
        now = self._clock.monotonic()
        if lane is not None and lane.end_ticket(ticket.ticket_id, outcome, now=now) is not None:
            self._change(lane)

    def finish(self, lease: SlotLease, outcome: LeaseOutcome) -> None:
        """The request is through with its slot. Safe to repeat."""
        lane = self.lanes.get(lease.endpoint_id)
        if lane is None or lane.leases.get(lease.lease_id) is not lease:
            return
        del lane.leases[lease.lease_id]
        now = self._clock.monotonic()
        first = lease.first_byte_at
        lane.count_end(
            outcome,
            now - lease.dispatched_at,
            None if first is None else first - lease.dispatched_at,
        )
        if not lane.changed:
            self._change(lane)
        loan = lease.loan
        if loan is not None:
            loan.n_requests += 1
            if self._loans.end(loan, keep=outcome != "connect_failed", now=now):
                self._events.loan_ended(loan, outcome)
            elif lane.waiters:
                self.use_idle_loans(lane.endpoint_id)
        elif lane.slots.release(lease.lease_id, now=now) is not None:
            self._events.slots_freed(lane.endpoint_id)

    # ---- tickets of this router's clients

    def waits(self, ticket: Ticket) -> bool:
        """Whether this ticket's client still waits here."""
        lane = self.lanes.get(ticket.endpoint_id)
        return lane is not None and lane.waits(ticket.ticket_id)

    def waiting_tickets(self) -> Iterator[Ticket]:
        """Every ticket that waits here and was published, each lane's in order."""
        for lane in self.lanes.values():
            for ticket_id in lane.waiting:
                if lane.waiters[ticket_id].published:
                    yield lane.waiters[ticket_id].ticket

    def dispatch_here(self, ticket: Ticket) -> bool:
        """Give a slot driven here to this ticket, which must wait here; False = none is free."""
        lane = self.lanes[ticket.endpoint_id]
        waiter = lane.waiters[ticket.ticket_id]
        now = self._clock.monotonic()
        lease = self._try_own_slot(lane, waiter.since, now, (), None)
        if lease is None:
            return False
        self._hand_over(lane, waiter, lease)
        return True

    def dispatch_loan(self, endpoint_id: str, ticket_id: str, loan: Loan) -> bool:
        """Use a borrowed slot for this ticket; False = it does not wait here (any more)."""
        lane = self.lanes.get(endpoint_id)
        if lane is None or not lane.waits(ticket_id):
            return False
        waiter = lane.waiters[ticket_id]
        now = self._clock.monotonic()
        self._hand_over(lane, waiter, self._lease_of(lane, loan, waiter.since, now))
        return True

    def use_idle_loans(self, endpoint_id: str) -> None:
        """Give borrowed slots that are idle to those who wait here, in order."""
        lane = self.lanes.get(endpoint_id)
        while lane is not None and (waiter := lane.head()) is not None:
            loan = self._loans.try_take(endpoint_id)
            if loan is None:
                return
            now = self._clock.monotonic()
            self._hand_over(lane, waiter, self._lease_of(lane, loan, waiter.since, now))

    def serve_locally(self, endpoint_id: str) -> None:
        """Give the free slots driven here to those who wait here, in order, without JetStream."""
        lane = self.lanes.get(endpoint_id)
        while lane is not None and (waiter := lane.head()) is not None:
            if not self.dispatch_here(waiter.ticket):
                return

    def _hand_over(self, lane: Lane, waiter: Waiter, lease: SlotLease) -> None:
        lease.cold = waiter.cold
        lane.end_ticket(waiter.ticket.ticket_id, TicketOutcome.DISPATCHED, now=lease.dispatched_at)
        waiter.answer.set_result(lease)
        self._change(lane)

    def _try_loan(
        self, lane: Lane, since: float, now: float, avoid: Collection[str]
    ) -> SlotLease | None:
        """A borrowed slot that is idle."""
        loan = self._loans.try_take(lane.endpoint_id, avoid=avoid)
        if loan is None:
            return None
        self._change(lane)
        return self._lease_of(lane, loan, since, now)

    def _try_own_slot(
        self,
        lane: Lane,
        since: float,
        now: float,
        avoid: Collection[str],
        affinity: str | None,
    ) -> SlotLease | None:
        if not lane.driven:
            return None
        lease_id = self._new_id(ids.SLOT_LEASE)
        worker_id = lane.slots.try_acquire(lease_id, avoid=avoid, affinity=affinity)
        if worker_id is None:
            return None
        address = lane.driven[worker_id].address
        assert address is not None, "a worker that accepts requests has an address"
        lease = SlotLease(
            lease_id,
            lane.endpoint_id,
            worker_id,
            address,
            self.router_id,
            now - since,
            False,
            now,
        )
        lane.leases[lease_id] = lease
        if not lane.changed:
            self._change(lane)
        return lease

    @staticmethod
    def _lease_of(lane: Lane, loan: Loan, since: float, now: float) -> SlotLease:
        lease = lane.leases[loan.lease_id] = SlotLease(
            loan.lease_id,
            lane.endpoint_id,
            loan.worker_id,
            loan.address,
            loan.driver_id,
            max(0.0, now - since),
            False,
            now,
            loan,
        )
        return lease

    # ---- slots lent to other routers

    def try_lend(self, endpoint_id: str, lease_id: str) -> tuple[str, Address] | None:
        """Reserve a slot under this lease: (worker, address), or None when none is free."""
        lane = self.lanes.get(endpoint_id)
        worker_id = None if lane is None else lane.slots.try_acquire(lease_id)
        if lane is None or worker_id is None:
            return None
        address = lane.driven[worker_id].address
        assert address is not None, "a worker that accepts requests has an address"
        self._change(lane)
        return worker_id, address

    def take_back(self, endpoint_id: str, lease_id: str, *, n_requests: int = 0) -> None:
        """A slot driven here is free again, after so many requests. Safe to repeat."""
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            return
        now = self._clock.monotonic()
        if lane.slots.release(lease_id, now=now, n_requests=n_requests) is not None:
            self._change(lane)
            self._events.slots_freed(endpoint_id)

    # ---- lanes

    def lane(self, endpoint_id: str) -> Lane:
        """The lane of this endpoint, made when it has none."""
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            lane = self.lanes[endpoint_id] = Lane.empty(endpoint_id, self._policy)
            self._events.lane_made(endpoint_id)
        return lane

    def evict(self, lane: Lane, refusal: Refusal, ticket_ids: Iterable[str] | None = None) -> None:
        """Answer those who wait (or these of them) with this refusal."""
        if not lane.waiters:
            return
        now = self._clock.monotonic()
        for ticket_id in tuple(lane.waiting if ticket_ids is None else ticket_ids):
            if lane.waits(ticket_id):
                counted = lane.waiting.count(refusal)
                waiter = lane.end_ticket(ticket_id, TicketOutcome.EVICTED, now=now)
                if waiter is not None:
                    waiter.answer.set_result(counted)
        self._change(lane)

    # ---- workers that change hands

    def take_over(self, lane: Lane, worker_id: str, *, n_slots: int, epoch: int) -> None:
        """This router's reign over a worker begins: count what its own requests hold there."""
        lane.slots.drop_worker(worker_id)
        lane.slots.put_worker(
            worker_id, n_slots=n_slots, accepting=False, now=self._clock.monotonic()
        )
        for lease in lane.leases.values():
            if lease.worker_id == worker_id:
                if lease.loan is not None:
                    self._loans.forget((lease.loan,))
                    lease.loan = None
                lease.driver_id = self.router_id
                lane.slots.adopt(lease.lease_id, worker_id)
        self._loans.forget(self._loans.of_worker(worker_id))  # idle ones of it

    def yield_worker(
        self, endpoint_id: str, worker_id: str, driver_id: str, epoch: int
    ) -> tuple[str, ...]:
        """Another router drives this worker: gives the leases that requests of this router hold.

        They are that router's from now on, and are released to it. Safe to repeat.
        """
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            return ()
        held = [lease for lease in lane.leases.values() if lease.worker_id == worker_id]
        lane.slots.drop_worker(worker_id)
        for loan in self._loans.of_worker(worker_id):
            if loan.idle_since is not None:
                self._loans.forget((loan,))
        for lease in held:
            lease.driver_id = driver_id
            if lease.loan is None:
                lease.loan = Loan(
                    lease.lease_id, endpoint_id, worker_id, lease.address, driver_id, epoch, 0.0
                )
                self._loans.add(lease.loan)
            self._loans.move(lease.loan, driver_id, epoch)
        return tuple(lease.lease_id for lease in held)

    def holds_of_others(self, lane: Lane, worker_id: str, epoch: int) -> bool:
        """Whether requests hold slots of this worker that were given out before this epoch."""
        return any(
            lease.worker_id == worker_id and (lease.loan is None or lease.loan.epoch < epoch)
            for lease in lane.leases.values()
        )

    def stop(self) -> None:
        """Let nobody wait and give out no slot from now on; what is in flight goes on."""
        self.stopping = True
        assert STOPPING.closed is not None
        for lane in self.lanes.values():
            self.evict(lane, STOPPING.closed)
