"""The driver's side of the slot protocol: pull tickets, give slots, lend them, get them back.

Theory of operation (the origin's side is `tickets.py`). For each endpoint of which this router
drives workers there is a pull loop that asks JetStream for as many tickets as there are free
slots. A ticket that comes joins the endpoint's *backlog*, whose head is served while slots are
free: an own one is dispatched, another router's is reserved a slot and offered to it. So a ticket
whose slot was taken by a warm request on the way is the first to get the next one.

A ticket is acknowledged when its fate is known: dispatched, accepted, declined, or its origin
gone. Until then its ack wait is restarted every second, and if this router dies, JetStream hands
it to another. What becomes of a slot that was lent stands in `lending.py`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from penstock_common import ids, subjects
from penstock_common.clock import Clock
from penstock_common.connection import Bus, Received
from penstock_common.errors import BusDisconnectedError, BusTimeoutError, NoRespondersError
from penstock_common.messages import GrantReply, GrantRequest, HeldLeases, Release, Ticket
from penstock_common.pull_loop import Delivered, PullLoop
from penstock_common.streams import ticket_consumer
from penstock_router.background import Background
from penstock_router.dispatch import Dispatcher
from penstock_router.lending import LentSlots

logger = logging.getLogger(__name__)

#: Longest wait for the answer to an offer.
OFFER_TIMEOUT_S: Final = 2.0


@dataclass(slots=True)
class _Pulled:
    ticket: Ticket
    message: Delivered
    #: settles the message, also when it pulls no more
    loop: PullLoop


@dataclass(slots=True)
class _Offer:
    """A slot that is lent, or being offered."""

    grant: GrantRequest
    origin_id: str
    #: the ticket as it was pulled, while its fate is unknown
    pulled: _Pulled | None


class Driver:
    """The slots that this router counts, given to whoever has waited longest."""

    def __init__(
        self,
        bus: Bus,
        dispatcher: Dispatcher,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        background: Background,
        is_lost: Callable[[str], bool],
        on_heard: Callable[[str], None],
        on_connect_failed: Callable[[str, str], None],
    ) -> None:
        """Nothing is pulled before `start` and `run`.

        Args:
            bus: of the data path.
            dispatcher: has the slots and the waiting clients.
            clock: for leases.
            new_id: a fresh id with this prefix.
            background: runs the offers.
            is_lost: whether this router is dead.
            on_heard: told that this router lives.
            on_connect_failed: told (endpoint, worker) that did not take another router's connection.
        """
        self._bus = bus
        self._dispatcher = dispatcher
        self._router_id = dispatcher.router_id
        self._clock = clock
        self._new_id = new_id
        self._background = background
        self._is_lost = is_lost
        self._on_heard = on_heard
        self._on_connect_failed = on_connect_failed
        self._loops: dict[str, PullLoop] = {}
        self._backlogs: dict[str, deque[_Pulled]] = {}
        self._offers: dict[str, _Offer] = {}
        self._lent = LentSlots()
        self._changed = asyncio.Event()
        self._stopping = False

    @property
    def lent(self) -> int:
        """Slots that are lent to other routers, or being offered."""
        return len(self._lent)

    async def start(self) -> None:
        """Listen for releases and lists.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        await self._bus.subscribe(subjects.router_release(self._router_id), self._on_release)
        await self._bus.subscribe(subjects.router_leases(self._router_id), self._on_held)
        self._bus.on_disconnect(self._on_disconnect)

    # ---- pull loops

    async def run(self) -> None:
        """Keep a pull loop for each endpoint with workers driven here, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._endpoints()
            for endpoint_id in wanted - self._loops.keys():
                loop = self._loops[endpoint_id] = self._make_loop(endpoint_id)
                await loop.start()
            for endpoint_id in self._loops.keys() - wanted:
                loop = self._loops.pop(endpoint_id)
                self._hand_back(endpoint_id)
                # Nak-ing what is on its way takes a while that other endpoints need not wait.
                self._background.spawn(loop.stop(), name=f"stop-pull-{endpoint_id}")

    def _endpoints(self) -> set[str]:
        if self._stopping:
            return set()
        return {i for i, lane in self._dispatcher.lanes.items() if lane.driven}

    def _make_loop(self, endpoint_id: str) -> PullLoop:
        loop = PullLoop(
            self._bus,
            stream=subjects.TICKETS,
            consumer=ticket_consumer(endpoint_id),
            capacity=lambda: self._capacity(endpoint_id),
            handler=lambda message: self._on_ticket(endpoint_id, loop, message),
        )
        return loop

    def _capacity(self, endpoint_id: str) -> int:
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is None or self._stopping:
            return 0
        return lane.slots.free - len(self._backlogs.get(endpoint_id, ()))

    async def stop(self) -> None:
        """Pull no more; tickets that wait here go to other drivers. Lent slots stay lent."""
        self._stopping = True
        loops, self._loops = self._loops, {}
        for endpoint_id in loops:
            self._hand_back(endpoint_id)
        if loops:
            await asyncio.gather(*(loop.stop() for loop in loops.values()))

    def _hand_back(self, endpoint_id: str) -> None:
        for pulled in self._backlogs.pop(endpoint_id, ()):
            self._settle(pulled.loop.nak(pulled.message))

    # ---- tickets to slots

    def workers_changed(self) -> None:
        """Workers may have come or gone: look whether pull loops have to."""
        self._changed.set()

    def slots_freed(self, endpoint_id: str) -> None:
        """A slot is free: serve who was pulled already, then ask for more."""
        self._serve_backlog(endpoint_id)
        if not self._bus.connected:
            self._dispatcher.serve_locally(endpoint_id)
            return
        loop = self._loops.get(endpoint_id)
        if loop is not None:
            loop.poke()

    def _on_ticket(self, endpoint_id: str, loop: PullLoop, message: Delivered) -> None:
        try:
            ticket = Ticket.decode(message.data)
        except ValidationError as error:
            logger.error(
                "ticket cannot be read, dropped",
                extra={
                    "action": "ticket_unreadable",
                    "endpoint_id": endpoint_id,
                    "error": str(error),
                },
            )
            self._settle(loop.term(message))
            return
        self._backlogs.setdefault(endpoint_id, deque()).append(_Pulled(ticket, message, loop))
        self._serve_backlog(endpoint_id)

    def _serve_backlog(self, endpoint_id: str) -> None:
        backlog = self._backlogs.get(endpoint_id)
        while backlog and self._try_serve(endpoint_id, backlog[0]):
            backlog.popleft()

    def _try_serve(self, endpoint_id: str, pulled: _Pulled) -> bool:
        """Whether this ticket needs the backlog no more."""
        ticket = pulled.ticket
        if ticket.router_id == self._router_id:
            if self._dispatcher.waits(ticket) and not self._dispatcher.dispatch_here(ticket):
                return False
            self._settle(pulled.loop.ack(pulled.message))
            return True
        lease_id = self._new_id(ids.SLOT_LEASE)
        lent = self._dispatcher.try_lend(endpoint_id, lease_id)
        if lent is None:
            return False
        worker_id, address = lent
        grant = GrantRequest(
            ticket_id=ticket.ticket_id,
            endpoint_id=endpoint_id,
            lease_id=lease_id,
            driver_id=self._router_id,
            worker_id=worker_id,
            host=address.host,
            port=address.port,
        )
        self._offers[lease_id] = _Offer(grant, ticket.router_id, pulled)
        self._lent.offer(lease_id, ticket.router_id, now=self._clock.monotonic())
        self._background.spawn(self._offer(lease_id, first=True), name=f"offer-{lease_id}")
        return True

    # ---- lending

    async def _offer(self, lease_id: str, *, first: bool) -> None:
        offer = self._offers.get(lease_id)
        if offer is None:
            return
        try:
            answer = await self._bus.request(
                subjects.router_grant(offer.origin_id),
                offer.grant.encode(),
                timeout_s=OFFER_TIMEOUT_S,
            )
            accepted = GrantReply.decode(answer.data).accepted
        except NoRespondersError:
            # At the first offer: the origin is gone. Later it may hold the lease, and only have
            # lost its connection for a moment; then its record decides.
            if not first:
                return
            accepted = False
        except (BusTimeoutError, BusDisconnectedError, ValidationError) as error:
            logger.info(
                "offer of a slot not answered",
                extra={
                    "action": "offer_unanswered",
                    "lease_id": lease_id,
                    "router_id": offer.origin_id,
                    "error": str(error),
                },
            )
            return
        self._decide(offer)
        if accepted:
            self._lent.accepted(lease_id, now=self._clock.monotonic())
        else:
            self._take_back(lease_id)

    def _decide(self, offer: _Offer) -> None:
        """The ticket's fate is known."""
        if offer.pulled is not None:
            self._settle(offer.pulled.loop.ack(offer.pulled.message))
            offer.pulled = None

    def _take_back(self, lease_id: str) -> None:
        self._lent.end(lease_id)
        offer = self._offers.pop(lease_id, None)
        if offer is not None:
            self._dispatcher.take_back(offer.grant.endpoint_id, lease_id)

    def _on_release(self, message: Received) -> None:
        try:
            release = Release.decode(message.data)
        except ValidationError as error:
            logger.error(
                "release cannot be read, ignored",
                extra={"action": "release_unreadable", "error": str(error)},
            )
            return
        offer = self._offers.get(release.lease_id)
        if offer is None:
            return
        self._decide(offer)
        if release.outcome == "connect_failed":
            # Before its slot is given to the next one.
            self._on_connect_failed(release.endpoint_id, release.worker_id)
        self._take_back(release.lease_id)

    def _on_held(self, message: Received) -> None:
        try:
            held = HeldLeases.decode(message.data)
        except ValidationError as error:
            logger.error(
                "list of leases cannot be read, ignored",
                extra={"action": "held_unreadable", "error": str(error)},
            )
            return
        self._on_heard(held.router_id)
        lease_ids = frozenset(held.lease_ids)
        for lease_id in lease_ids & self._offers.keys():
            self._decide(self._offers[lease_id])
        over = self._lent.listed(held.router_id, lease_ids, now=self._clock.monotonic())
        self._reclaim(over, "lists lack it")

    def _reclaim(self, lease_ids: tuple[str, ...], why: str) -> None:
        for lease_id in lease_ids:
            offer = self._offers[lease_id]
            logger.warning(
                "lent slot taken back",
                extra={
                    "action": "lease_reclaimed",
                    "lease_id": lease_id,
                    "router_id": offer.origin_id,
                    "endpoint_id": offer.grant.endpoint_id,
                    "worker_id": offer.grant.worker_id,
                    "reason": why,
                },
            )
            if offer.pulled is not None:
                # The origin never got the offer, and may still wait.
                self._settle(offer.pulled.loop.nak(offer.pulled.message))
                offer.pulled = None
            self._take_back(lease_id)

    # ---- time and connection

    def tick(self, now: float) -> None:
        """Keep what is pulled, ask after what is lent; to be called once a second."""
        for endpoint_id, backlog in self._backlogs.items():
            self._serve_backlog(endpoint_id)
            for pulled in backlog:
                self._settle(pulled.loop.in_progress(pulled.message))
        for offer in self._offers.values():
            if offer.pulled is not None:
                self._settle(offer.pulled.loop.in_progress(offer.pulled.message))
        for endpoint_id in tuple(self._backlogs):
            if not self._accepts(endpoint_id):
                self._hand_back(endpoint_id)
        for origin_id in self._lent.origins():
            if self._is_lost(origin_id):
                self._reclaim(self._lent.lost(origin_id), "its router is lost")
        for lease_id in self._lent.plan_asking(now=now):
            self._background.spawn(self._offer(lease_id, first=False), name=f"ask-{lease_id}")

    def _accepts(self, endpoint_id: str) -> bool:
        lane = self._dispatcher.lanes.get(endpoint_id)
        return lane is not None and any(map(lane.slots.accepting, lane.slots.worker_ids()))

    def _on_disconnect(self) -> None:
        # What was pulled cannot be settled any more; if its stream lives, it is delivered again.
        self._backlogs.clear()
        for offer in self._offers.values():
            offer.pulled = None
        for endpoint_id in tuple(self._dispatcher.lanes):
            self._dispatcher.serve_locally(endpoint_id)

    def _settle(self, verdict: Coroutine[Any, Any, None]) -> None:
        self._background.spawn(verdict, name="settle-ticket")
