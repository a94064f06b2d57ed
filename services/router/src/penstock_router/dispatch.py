"""Requests to slots: who gets one now, who waits, and where a freed slot goes.

Theory of operation. A `Lane` is one endpoint's state here. All changes happen in plain functions
on the event loop, so each is whole before the next begins; the only wait is a client's, for its
`Waiter.answer`. A waiting ticket gets its slot by exactly one of

- `dispatch_here`: this router drives a worker with a free slot and got the ticket from JetStream;
- `dispatch_there`: another router that does offers one (a grant);
- `serve_locally`: NATS is away (or hands out nothing), and this router drives a free slot.

Whatever gives it, the first one wins, since the ticket leaves the waiting list with it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Final, Protocol

from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.messages import EndpointRecord, GrantRequest, Ticket
from penstock_common.states import TicketOutcome
from penstock_router.admission import STOPPING, Admission, Refusal, judge_endpoint
from penstock_router.catalogue import Address, Catalogue, WorkerView
from penstock_router.lanes import Driven, Lane, LeaseOutcome, SlotLease, Waiter
from penstock_router.picker import Policy

#: A slot that stays free for so long while somebody waits is given out without JetStream.
STALLED_S: Final = 2.0
#: Told to clients whose endpoint went away after they were let in.
GONE: Final = Refusal(503, "deleting", "The endpoint is deleted.")


class DispatchEvents(Protocol):
    """What the dispatcher tells the rest of the router; plain functions that do not raise."""

    def ticket_waits(self, ticket: Ticket) -> None:
        """A client waits; its ticket is to be published."""
        ...

    def slots_freed(self, endpoint_id: str) -> None:
        """A slot that this router drives is free."""
        ...

    def lease_ended(self, lease: SlotLease, outcome: LeaseOutcome, service_time_s: float) -> None:
        """A request is through with a slot that another router counts."""
        ...

    def load_changed(self, endpoint_id: str, *, urgent: bool) -> None:
        """Something that a queue report tells has changed."""
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
        ejected: Callable[[WorkerView], bool],
    ) -> None:
        """A dispatcher without lanes.

        Args:
            router_id: of this router: it drives the workers that name it.
            catalogue: read whenever an endpoint is refreshed.
            policy: picks among free workers.
            clock: for waits and service times.
            new_id: a fresh id with this prefix.
            events: told what happens.
            ejected: whether a worker that should take requests did not take connections.
        """
        self.router_id = router_id
        self.lanes: dict[str, Lane] = {}
        self._catalogue = catalogue
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self._events = events
        self._ejected = ejected
        self._stopping = False

    # ---- requests of this router's clients

    def try_acquire(
        self,
        endpoint: EndpointRecord,
        *,
        since: float | None = None,
        avoid: Collection[str] = (),
    ) -> SlotLease | Refusal | Waiter:
        """A slot for a request if one is free; never waits. Finish the slot exactly once.

        Args:
            endpoint: what is called.
            since: of a request that lost its worker: when it came first.
            avoid: workers at which it failed.

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
            and not (lane.waiters or self._stopping)
            and lane.condition.closed is None
            and (lease := self._try_own_slot(lane, since=now, cold=False)) is not None
        ):
            # The warm path, which `decide_admission` would let pass as well.
            lane.arrivals_total += 1
            return lease
        if since is None:
            lane.arrivals_total += 1
        decision = lane.waiting.decide_admission(
            slot_free=lane.slots.free > 0,
            limits=endpoint.spec.queue,
            condition=STOPPING if self._stopping else lane.condition,
            again=since is not None,
        )
        since = now if since is None else since
        if isinstance(decision, Refusal):
            self._events.load_changed(lane.endpoint_id, urgent=False)
            return decision
        if decision is Admission.SLOT:
            lease = self._try_own_slot(lane, since=since, cold=False, avoid=avoid)
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
            answer=asyncio.get_running_loop().create_future(),
        )
        lane.enqueue(waiter, now=now)
        self._events.load_changed(lane.endpoint_id, urgent=len(lane.waiting) == 1)
        self._events.ticket_waits(waiter.ticket)
        return waiter

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
                lane.waiting.refuse_waited(endpoint.spec.queue, lane.condition)
            )
            self._end_waiting(waiter, TicketOutcome.EVICTED)

    def _end_waiting(self, waiter: Waiter, outcome: TicketOutcome) -> None:
        ticket = waiter.ticket
        lane = self.lanes.get(ticket.endpoint_id)
        now = self._clock.monotonic()
        if lane is not None and lane.end_ticket(ticket.ticket_id, outcome, now=now) is not None:
            self._events.load_changed(lane.endpoint_id, urgent=False)

    def finish(self, lease: SlotLease, outcome: LeaseOutcome) -> None:
        """The request is through with its slot. Safe to repeat."""
        lane = self.lanes.get(lease.endpoint_id)
        if lane is None or lane.leases.pop(lease.lease_id, None) is None:
            return
        now = self._clock.monotonic()
        service_time_s = max(0.0, now - lease.dispatched_at)
        lane.count_end(outcome, service_time_s)
        self._events.load_changed(lane.endpoint_id, urgent=False)
        if lease.driver_id != self.router_id:
            self._events.lease_ended(lease, outcome, service_time_s)
        elif lane.slots.release(lease.lease_id, now=now) is not None:
            self._events.slots_freed(lane.endpoint_id)

    # ---- tickets of this router's clients

    def waits(self, ticket: Ticket) -> bool:
        """Whether this ticket's client still waits here."""
        lane = self.lanes.get(ticket.endpoint_id)
        return lane is not None and lane.waits(ticket.ticket_id)

    def waiting_tickets(self) -> Iterator[Ticket]:
        """Every ticket that waits here, each lane's in order."""
        for lane in self.lanes.values():
            for ticket_id in lane.waiting:
                yield lane.waiters[ticket_id].ticket

    def dispatch_here(self, ticket: Ticket) -> bool:
        """Give a slot driven here to this ticket, which must wait here; False = none is free."""
        lane = self.lanes[ticket.endpoint_id]
        waiter = lane.waiters[ticket.ticket_id]
        lease = self._try_own_slot(lane, since=waiter.since, cold=waiter.cold)
        if lease is None:
            return False
        self._hand_over(lane, waiter, lease)
        return True

    def dispatch_there(self, grant: GrantRequest) -> SlotLease | None:
        """Use a slot that another router offers; None = its ticket does not wait (any more)."""
        lane = self.lanes.get(grant.endpoint_id)
        if lane is None or not lane.waits(grant.ticket_id):
            return None
        waiter = lane.waiters[grant.ticket_id]
        now = self._clock.monotonic()
        lease = SlotLease(
            lease_id=grant.lease_id,
            endpoint_id=grant.endpoint_id,
            worker_id=grant.worker_id,
            address=Address(grant.host, grant.port),
            driver_id=grant.driver_id,
            waited_s=max(0.0, now - waiter.since),
            cold=waiter.cold,
            dispatched_at=now,
        )
        lane.leases[lease.lease_id] = lease
        self._hand_over(lane, waiter, lease)
        return lease

    def serve_locally(self, endpoint_id: str) -> None:
        """Give the free slots driven here to those who wait here, in order, without JetStream."""
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            return
        for ticket_id in lane.waiting:
            if lane.waits(ticket_id) and not self.dispatch_here(lane.waiters[ticket_id].ticket):
                return

    def _hand_over(self, lane: Lane, waiter: Waiter, lease: SlotLease) -> None:
        lane.end_ticket(waiter.ticket.ticket_id, TicketOutcome.DISPATCHED, now=lease.dispatched_at)
        waiter.answer.set_result(lease)
        self._events.load_changed(lane.endpoint_id, urgent=False)

    def _try_own_slot(
        self, lane: Lane, *, since: float, cold: bool, avoid: Collection[str] = ()
    ) -> SlotLease | None:
        lease_id = self._new_id(ids.SLOT_LEASE)
        lent = self._try_slot(lane, lease_id, avoid)
        if lent is None:
            return None
        worker_id, address = lent
        now = self._clock.monotonic()
        lease = SlotLease(
            lease_id=lease_id,
            endpoint_id=lane.endpoint_id,
            worker_id=worker_id,
            address=address,
            driver_id=self.router_id,
            waited_s=max(0.0, now - since),
            cold=cold,
            dispatched_at=now,
        )
        lane.leases[lease_id] = lease
        self._events.load_changed(lane.endpoint_id, urgent=False)
        return lease

    def _try_slot(
        self, lane: Lane, lease_id: str, avoid: Collection[str] = ()
    ) -> tuple[str, Address] | None:
        worker_id = lane.slots.try_acquire(lease_id, avoid=avoid)
        if worker_id is None:
            return None
        address = lane.driven[worker_id].address
        assert address is not None, "a worker that accepts requests has an address"
        return worker_id, address

    # ---- slots lent to other routers

    def try_lend(self, endpoint_id: str, lease_id: str) -> tuple[str, Address] | None:
        """Reserve a slot under this lease: (worker, address), or None when none is free."""
        lane = self.lanes.get(endpoint_id)
        lent = None if lane is None else self._try_slot(lane, lease_id)
        if lent is not None:
            self._events.load_changed(endpoint_id, urgent=False)
        return lent

    def take_back(self, endpoint_id: str, lease_id: str) -> None:
        """A slot driven here is free again. Safe to repeat."""
        lane = self.lanes.get(endpoint_id)
        if lane is None or lane.slots.release(lease_id, now=self._clock.monotonic()) is None:
            return
        self._events.load_changed(endpoint_id, urgent=False)
        self._events.slots_freed(endpoint_id)

    # ---- endpoints and workers

    def lane(self, endpoint_id: str) -> Lane:
        """The lane of this endpoint, made when it has none."""
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            lane = self.lanes[endpoint_id] = Lane.empty(endpoint_id, self._policy)
            self.refresh(endpoint_id)
        return lane

    def refresh(self, endpoint_id: str) -> None:
        """Bring the lane to what the catalogue says. Safe to repeat; a tick repeats it."""
        mine = {
            view.assignment.worker_id: view
            for view in self._catalogue.workers(endpoint_id)
            if view.assignment.driver == self.router_id
        }
        lane = self.lanes.get(endpoint_id)
        if lane is None:
            if not mine:
                return
            lane = self.lanes[endpoint_id] = Lane.empty(endpoint_id, self._policy)
        n_freed = self._refresh_workers(lane, mine)
        self._refresh_condition(lane)
        if n_freed:
            self._events.slots_freed(endpoint_id)
        if lane.over and self._catalogue.endpoint(endpoint_id) is None:
            del self.lanes[endpoint_id]

    def _refresh_workers(self, lane: Lane, mine: dict[str, WorkerView]) -> int:
        record = self._catalogue.endpoint(lane.endpoint_id)
        now = self._clock.monotonic()
        n_freed, changed = 0, False
        for worker_id, view in mine.items():
            spec = record.spec if record is not None else view.assignment.spec
            accepting = view.takes_requests and not self._stopping and not self._ejected(view)
            was = (lane.driven.get(worker_id), lane.slots.accepting(worker_id))
            lane.driven[worker_id] = Driven(view.address, view.revision)
            n_freed += lane.slots.put_worker(
                worker_id, n_slots=spec.workers.max_concurrency, accepting=accepting, now=now
            )
            changed = changed or was != (lane.driven[worker_id], accepting)
        for worker_id in lane.slots.worker_ids():
            if worker_id not in mine:
                changed = changed or lane.slots.accepting(worker_id)
                lane.slots.remove_worker(worker_id)
        for worker_id in set(lane.driven) - set(lane.slots.worker_ids()):
            del lane.driven[worker_id]
            changed = True
        if changed:
            self._events.load_changed(lane.endpoint_id, urgent=False)
        return n_freed

    def _refresh_condition(self, lane: Lane) -> None:
        record = self._catalogue.endpoint(lane.endpoint_id)
        if record is None:
            self._evict(lane, GONE)
            return
        lane.condition = judge_endpoint(
            record,
            self._catalogue.status(lane.endpoint_id),
            running=self._catalogue.runs(lane.endpoint_id),
            utc_now=self._clock.utc(),
        )
        refusal = lane.condition.closed or lane.condition.failing
        if refusal is not None:
            self._evict(lane, refusal)

    def _evict(self, lane: Lane, refusal: Refusal) -> None:
        if not lane.waiters:
            return
        now = self._clock.monotonic()
        counted = lane.waiting.count(refusal)
        for ticket_id in lane.waiting:
            if lane.waits(ticket_id):
                waiter = lane.end_ticket(ticket_id, TicketOutcome.EVICTED, now=now)
                if waiter is not None:
                    waiter.answer.set_result(counted)
        self._events.load_changed(lane.endpoint_id, urgent=False)

    def tick(self, now: float) -> None:
        """Refresh every lane, and serve those in which a free slot and a ticket do not meet."""
        for endpoint_id in tuple(self.lanes):
            self.refresh(endpoint_id)
        for endpoint_id, lane in self.lanes.items():
            if not (lane.waiters and lane.slots.free):
                lane.stalled_since = None
            elif lane.stalled_since is None:
                lane.stalled_since = now
            elif now - lane.stalled_since >= STALLED_S:
                self.serve_locally(endpoint_id)

    def stop(self) -> None:
        """Let nobody wait and give out no slot from now on; what is in flight goes on."""
        self._stopping = True
        assert STOPPING.closed is not None
        for lane in self.lanes.values():
            self._evict(lane, STOPPING.closed)
        for endpoint_id in tuple(self.lanes):
            self.refresh(endpoint_id)
