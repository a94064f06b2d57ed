"""The driver's side of the slot protocol: lend slots to other routers and get them back.

When a slot that was lent is surely back stands in `lending.py`. A ticket of another router is
acknowledged when its fate is known: its router holds a slot for it, or does not want one, or is
gone. When its slot turns out to be void, it goes back to JetStream for the next driver.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from penstock_common import ids, subjects
from penstock_common.clock import Clock
from penstock_common.messages import (
    Grant,
    GrantReply,
    HeldLeases,
    LentSlot,
    Recall,
    Release,
    Tally,
    Ticket,
)
from penstock_common.nats.connection import Received
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.wire import status_of
from penstock_router.dispatch import Dispatcher
from penstock_router.slot_protocol.lending import KEEP_S, Demand, Lent, LentSlots
from penstock_router.slot_protocol.wire import Wire, decode

logger = logging.getLogger(__name__)

#: A recall holds for so long; it is repeated while clients wait.
RECALL_S: Final = 1.0
#: Pause between recalls of one endpoint's slots.
RECALL_AGAIN_S: Final = 0.2


@dataclass(slots=True, eq=False)
class Pulled:
    """A ticket that came from JetStream and is not settled yet."""

    ticket: Ticket
    message: Delivered
    #: settles the message, also when it pulls no more
    loop: PullLoop

    def ack(self) -> None:
        """Its fate is known."""
        self.loop.ack(self.message)

    def nak(self) -> None:
        """Somebody else may serve it."""
        self.loop.nak(self.message)

    def hold(self) -> None:
        """It is still being worked on."""
        self.loop.in_progress(self.message)


@dataclass(slots=True, eq=False)
class _Offer:
    grant: Grant
    origin_id: str
    #: the ticket as it was pulled, while its fate is unknown
    pulled: Pulled | None
    n_sent: int = 0

    @property
    def key(self) -> str:
        return self.grant.slots[0].lease_id


class Lender:
    """The slots that this router counts, and other routers use."""

    def __init__(
        self,
        wire: Wire,
        dispatcher: Dispatcher,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        boot_id: str,
        epoch_of: Callable[[str], int],
        is_lost: Callable[[str], bool],
        on_heard: Callable[[str], None],
        on_connect_failed: Callable[[str, str], None],
    ) -> None:
        """Nothing is lent.

        Args:
            wire: to other routers.
            dispatcher: has the slots.
            clock: for leases.
            new_id: a fresh id with this prefix.
            boot_id: names this run of the process.
            epoch_of: this router's epoch at a worker that it drives.
            is_lost: whether a router is dead.
            on_heard: told that a router lives.
            on_connect_failed: told (endpoint, worker) that did not take another router's connection.
        """
        self._wire = wire
        self._dispatcher = dispatcher
        self._router_id = dispatcher.router_id
        self._clock = clock
        self._new_id = new_id
        self._boot_id = boot_id
        self._epoch_of = epoch_of
        self._is_lost = is_lost
        self._on_heard = on_heard
        self._on_connect_failed = on_connect_failed
        self._lent = LentSlots()
        self._demand: dict[str, Demand] = {}
        self._offers: dict[str, _Offer] = {}  # by each lease that is not answered for
        self._recalled_at: dict[str, float] = {}
        self._granted = subjects.router_granted(self._router_id, "")

    def __len__(self) -> int:
        """Slots that are lent to other routers, or being offered."""
        return len(self._lent)

    async def start(self) -> None:
        """Listen for answers, releases and lists.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        me = self._router_id
        await self._wire.listen_raw(subjects.router_granted(me, "*"), self.on_granted)
        await self._wire.listen(subjects.router_release(me), Release, self.on_release)
        await self._wire.listen(subjects.router_leases(me), HeldLeases, self.on_held)

    # ---- lending

    def try_offer(self, pulled: Pulled) -> bool:
        """Offer a slot to another router's ticket; False = none is free."""
        ticket = pulled.ticket
        endpoint_id, origin_id = ticket.endpoint_id, ticket.router_id
        first = self._try_reserve(endpoint_id)
        if first is None:
            return False
        now = self._clock.monotonic()
        demand = self._demand.setdefault(endpoint_id, Demand())
        slots = self._dispatcher.lanes[endpoint_id].slots
        n_ahead = demand.plan_ahead(origin_id, free=slots.free, now=now)
        if slots.split is not None:
            n_ahead = None  # each request is counted here, so that the split is exact
        ahead = [self._try_reserve(endpoint_id) for _ in range(n_ahead or 0)]
        keeps = n_ahead is not None
        grant = Grant(
            driver_id=self._router_id,
            boot_id=self._boot_id,
            number=self._lent.next_number(origin_id),
            endpoint_id=endpoint_id,
            ticket_id=ticket.ticket_id,
            slots=(first, *(slot for slot in ahead if slot is not None)),
            keep_s=KEEP_S if keeps else 0.0,
        )
        offer = _Offer(grant, origin_id, pulled)
        for slot in grant.slots:
            self._offers[slot.lease_id] = offer
            lent = Lent(origin_id, endpoint_id, slot.worker_id, grant.number, keeps, now)
            self._lent.add(slot.lease_id, lent)
        self._send(offer)
        return True

    def _try_reserve(self, endpoint_id: str) -> LentSlot | None:
        lease_id = self._new_id(ids.SLOT_LEASE)
        reserved = self._dispatcher.try_lend(endpoint_id, lease_id)
        if reserved is None:
            return None
        worker_id, address = reserved
        return LentSlot(
            lease_id=lease_id,
            worker_id=worker_id,
            host=address.host,
            port=address.port,
            epoch=self._epoch_of(worker_id),
        )

    def _send(self, offer: _Offer) -> None:
        offer.n_sent += 1
        reply = subjects.router_granted(self._router_id, offer.key)
        self._wire.tell(subjects.router_grant(offer.origin_id), offer.grant, reply=reply)

    def on_granted(self, received: Received) -> None:
        """An offer was answered, or reached nobody."""
        offer = self._offers.get(received.subject[len(self._granted) :])
        if offer is None:
            return
        if status_of(received) == 503 and not received.data:
            # Nobody got it. What was sent before may have been got, by who is away for a moment.
            if offer.n_sent == 1:
                nobody = GrantReply(router_id=offer.origin_id, holder_boot_id="", lease_ids=())
                self._answered(offer, nobody)
            return
        reply = decode(received, GrantReply)
        if reply is not None:
            self._on_heard(reply.router_id)
            self._answered(offer, reply)

    def _answered(self, offer: _Offer, reply: GrantReply) -> None:
        now = self._clock.monotonic()
        self._decide(offer, ack=not reply.waits)
        for slot in offer.grant.slots:
            if self._offers.pop(slot.lease_id, None) is None:
                continue
            lent = self._lent.get(slot.lease_id)
            if lent is not None and slot.lease_id in reply.lease_ids:
                lent.heard_at, lent.holder_boot_id = now, reply.holder_boot_id
            else:
                self._take_back(slot.lease_id)

    @staticmethod
    def _decide(offer: _Offer, *, ack: bool) -> None:
        """The ticket's fate is known, or is not in our hands."""
        pulled, offer.pulled = offer.pulled, None
        if pulled is not None:
            pulled.ack() if ack else pulled.nak()

    # ---- getting back

    def _take_back(self, lease_id: str, *, n_requests: int = 0) -> None:
        self._offers.pop(lease_id, None)
        lent = self._lent.end(lease_id)
        if lent is not None:
            self._dispatcher.take_back(lent.endpoint_id, lease_id, n_requests=n_requests)

    def on_release(self, release: Release) -> None:
        """A slot is free again."""
        if release.lease_id not in self._lent:
            return
        offer = self._offers.get(release.lease_id)
        if offer is not None:
            self._decide(offer, ack=True)
        if release.outcome == "connect_failed":
            # Before its slot is given to the next one.
            self._on_connect_failed(release.endpoint_id, release.worker_id)
        self._take_back(release.lease_id, n_requests=release.n_requests)

    def on_held(self, held: HeldLeases) -> None:
        """A router lists what it holds of this one."""
        self._on_heard(held.router_id)
        lease_ids = frozenset(held.lease_ids)
        for lease_id in lease_ids & self._offers.keys():
            self._decide(self._offers.pop(lease_id), ack=True)
        number = held.number if held.boot_id == self._boot_id else 0
        now = self._clock.monotonic()
        over = self._lent.listed(
            held.router_id, held.holder_boot_id, lease_ids, number=number, now=now
        )
        self._reclaim(over, "its list lacks it")

    def _reclaim(self, lease_ids: tuple[str, ...], why: str) -> None:
        for lease_id in lease_ids:
            lent = self._lent.get(lease_id)
            if lent is None:
                continue
            logger.info(
                "lent slot taken back",
                extra={
                    "action": "lease_reclaimed",
                    "lease_id": lease_id,
                    "router_id": lent.origin_id,
                    "endpoint_id": lent.endpoint_id,
                    "worker_id": lent.worker_id,
                    "reason": why,
                },
            )
            offer = self._offers.get(lease_id)
            if offer is not None and offer.key == lease_id:
                # Its router may never have got the offer, and still wait.
                self._decide(offer, ack=False)
            self._take_back(lease_id)

    def recall(self, endpoint_id: str, worker_id: str | None = None) -> None:
        """Clients wait (or the worker takes no more): get back what is lent and not used."""
        now = self._clock.monotonic()
        since_s = now - self._recalled_at.get(endpoint_id, float("-inf"))
        if worker_id is None and since_s < RECALL_AGAIN_S:
            return
        keepers = self._lent.keepers(endpoint_id, worker_id)
        if not keepers:
            return
        if worker_id is None:
            self._recalled_at[endpoint_id] = now
        for router_id in keepers:
            self._ask(router_id, endpoint_id, worker_id, hold_s=RECALL_S)

    def _ask(
        self, router_id: str, endpoint_id: str, worker_id: str | None, *, hold_s: float
    ) -> None:
        recall = Recall(
            driver_id=self._router_id, endpoint_id=endpoint_id, worker_id=worker_id, hold_s=hold_s
        )
        self._wire.tell(subjects.router_recall(router_id), recall)

    # ---- workers that change hands

    def lent_to(self, worker_id: str) -> tuple[str, ...]:
        """Routers to which slots of this worker are lent, or offered."""
        return tuple(sorted({x.origin_id for x in self._lent.of_worker(worker_id).values()}))

    def drop_worker(self, worker_id: str) -> None:
        """Another router counts this worker's slots from now on."""
        for lease_id in self._lent.of_worker(worker_id):
            self._lent.end(lease_id)
            offer = self._offers.pop(lease_id, None)
            if offer is not None and offer.key == lease_id:
                self._decide(offer, ack=False)

    def adopt(self, endpoint_id: str, tally: Tally) -> None:
        """A router holds slots of a worker that another router drove before."""
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is None or tally.worker_id not in lane.slots:
            return
        now = self._clock.monotonic()
        router_id, worker_id = tally.router_id, tally.worker_id
        for lease_id in tally.lease_ids:
            if lane.slots.adopt(lease_id, worker_id):
                lent = Lent(router_id, endpoint_id, worker_id, 0, False, now, tally.holder_boot_id)
                self._lent.add(lease_id, lent)

    # ---- time and connection

    def tick(self, now: float) -> None:
        """Keep what is pulled, ask after what is lent; to be called once a second."""
        for offer in set(self._offers.values()):
            if offer.pulled is not None:
                offer.pulled.hold()
        for router_id in self._lent.origins():
            if self._is_lost(router_id):
                self._reclaim(self._lent.of_origin(router_id), "its router is lost")
        unseen, silent = self._lent.plan_asking(now=now)
        for offer in {self._offers[i] for i in unseen if i in self._offers}:
            self._send(offer)
        for router_id in silent:
            endpoint_id = self._lent_endpoint(router_id)
            self._ask(router_id, endpoint_id, None, hold_s=0.0)
        for demand in self._demand.values():
            demand.forget(now=now)

    def _lent_endpoint(self, router_id: str) -> str:
        lease_id = self._lent.of_origin(router_id)[0]
        lent = self._lent.get(lease_id)
        assert lent is not None, "it was listed just now"
        return lent.endpoint_id

    def disconnected(self) -> None:
        """What was pulled cannot be settled any more; if its stream lives, it comes again."""
        for offer in self._offers.values():
            offer.pulled = None
