"""The other side of the slot protocol: take the slots that drivers offer, use them, give them back.

Theory of operation (the driver's side is `lender.py`). A release is sent once, over core NATS, and
may be lost; so every second each driver gets the list of what is held of it, and for a while after
the last one an empty list. A list says which of the driver's offers has been seen: offers that come
after one of a higher number are refused, so a driver can trust the list.
"""

import logging
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.messages import Grant, GrantReply, HeldLeases, LentSlot, Recall, Release
from penstock_common.nats.connection import Received
from penstock_router.catalogue import Address, Catalogue
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import LeaseOutcome
from penstock_router.loans import Loan, Loans
from penstock_router.slot_protocol.claims import Reigns
from penstock_router.slot_protocol.wire import Wire, decode

logger = logging.getLogger(__name__)

#: Lists sent to a driver after the last lease of it ended.
_LAST_LISTS: Final = 5


class Borrower:
    """The slots that this router's requests use, and other routers count."""

    def __init__(
        self,
        wire: Wire,
        dispatcher: Dispatcher,
        loans: Loans,
        reigns: Reigns,
        *,
        catalogue: Catalogue,
        clock: Clock,
        boot_id: str,
    ) -> None:
        """Nothing is borrowed.

        Args:
            wire: to other routers.
            dispatcher: knows who waits.
            loans: the slots.
            reigns: who may offer them.
            catalogue: tells which workers take requests.
            clock: for how long slots are kept.
            boot_id: names this run of the process.
        """
        self._wire = wire
        self._dispatcher = dispatcher
        self._router_id = dispatcher.router_id
        self._loans = loans
        self._reigns = reigns
        self._catalogue = catalogue
        self._clock = clock
        self._boot_id = boot_id
        self._seen: dict[str, tuple[str, int]] = {}  # driver → (run, highest number of an offer)
        self._lists_left: dict[str, int] = {}  # driver → lists that it still gets

    async def start(self) -> None:
        """Listen for offers and recalls.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        me = self._router_id
        await self._wire.listen_raw(subjects.router_grant(me), self.on_grant)
        await self._wire.listen(subjects.router_recall(me), Recall, self.on_recall)

    # ---- offers

    def on_grant(self, received: Received) -> None:
        """A driver offers slots."""
        grant = decode(received, Grant)
        if grant is None:
            return
        boot_id, number = self._seen.get(grant.driver_id, ("", 0))
        is_new = boot_id != grant.boot_id or grant.number > number
        if is_new:
            self._seen[grant.driver_id] = (grant.boot_id, grant.number)
        self._lists_left[grant.driver_id] = _LAST_LISTS
        held = [
            slot.lease_id
            for place, slot in enumerate(grant.slots)
            if slot.lease_id in self._loans
            or (is_new and self._take(grant, slot, ahead=place > 0 or grant.ticket_id is None))
        ]
        reply = GrantReply(
            router_id=self._router_id,
            holder_boot_id=self._boot_id,
            lease_ids=tuple(held),
            waits=self._waits(grant) and grant.slots[0].lease_id not in held,
        )
        self._wire.tell(received.reply, reply)
        self._dispatcher.use_idle_loans(grant.endpoint_id)

    def _waits(self, grant: Grant) -> bool:
        lane = self._dispatcher.lanes.get(grant.endpoint_id)
        return lane is not None and grant.ticket_id is not None and lane.waits(grant.ticket_id)

    def _take(self, grant: Grant, slot: LentSlot, *, ahead: bool) -> bool:
        now = self._clock.monotonic()
        if not ahead and not self._waits(grant):
            return False
        if not self._reigns.allows(
            slot.worker_id, slot.epoch, grant.driver_id, grant.boot_id, now=now
        ):
            return False
        loan = Loan(
            slot.lease_id,
            grant.endpoint_id,
            slot.worker_id,
            Address(slot.host, slot.port),
            grant.driver_id,
            slot.epoch,
            grant.keep_s,
            idle_since=now if ahead else None,
        )
        if ahead and self._dispatcher.stopping:
            return False
        self._loans.add(loan)
        if not ahead:
            assert grant.ticket_id is not None, "who is not lent ahead has a ticket"
            self._dispatcher.dispatch_loan(grant.endpoint_id, grant.ticket_id, loan)
        return True

    # ---- giving back

    def give_back(self, loan: Loan, outcome: LeaseOutcome = "ok") -> None:
        """Tell the driver that this slot is free; it is no loan any more."""
        self._lists_left[loan.driver_id] = _LAST_LISTS
        release = Release(
            lease_id=loan.lease_id,
            endpoint_id=loan.endpoint_id,
            worker_id=loan.worker_id,
            outcome=outcome,
            n_requests=loan.n_requests,
        )
        self._wire.tell(subjects.router_release(loan.driver_id), release)
        if outcome == "connect_failed":
            for other in self._loans.forget(
                self._loans.idle_at(loan.endpoint_id, (loan.worker_id,))
            ):
                self.give_back(other)

    def on_recall(self, recall: Recall) -> None:
        """A driver wants its slots back, or at least a list of them."""
        self._lists_left[recall.driver_id] = _LAST_LISTS
        if recall.hold_s > 0:
            until = self._clock.monotonic() + recall.hold_s
            for loan in self._loans.recall(
                recall.driver_id, recall.endpoint_id, recall.worker_id, until=until
            ):
                self.give_back(loan)

    def sweep(self, now: float) -> None:
        """Give back what was kept for too long, or is of no use; call it a few times a second."""
        for loan in self._loans.expired(now=now):
            self.give_back(loan)

    def drop_unfit(self, endpoint_id: str) -> None:
        """Give back idle slots of workers that take no requests any more."""
        if not self._loans.idle(endpoint_id):
            return
        unfit = {
            view.assignment.worker_id
            for view in self._catalogue.workers(endpoint_id)
            if not view.takes_requests
        }
        for loan in self._loans.forget(self._loans.idle_at(endpoint_id, unfit)):
            self.give_back(loan)

    def tick(self) -> None:
        """Tell each driver what is held of it; to be called once a second."""
        held: dict[str, list[str]] = {driver_id: [] for driver_id in self._lists_left}
        held |= self._loans.held()
        for driver_id, lease_ids in held.items():
            if driver_id == self._router_id:
                continue
            boot_id, number = self._seen.get(driver_id, (None, 0))
            self._wire.tell(
                subjects.router_leases(driver_id),
                HeldLeases(
                    router_id=self._router_id,
                    holder_boot_id=self._boot_id,
                    lease_ids=tuple(lease_ids),
                    boot_id=boot_id,
                    number=number,
                ),
            )
            if lease_ids:
                self._lists_left[driver_id] = _LAST_LISTS
            else:
                self._lists_left[driver_id] -= 1
                if not self._lists_left[driver_id]:
                    del self._lists_left[driver_id]

    def reconnected(self) -> None:
        """Releases may have been lost: everybody gets lists again."""
        for driver_id in self._loans.held():
            self._lists_left[driver_id] = _LAST_LISTS
