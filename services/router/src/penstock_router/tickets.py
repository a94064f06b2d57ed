"""The origin's side of the slot protocol: publish tickets, take grants, give slots back.

Theory of operation (the driver's side is `driver.py`). A ticket is published once for each
connection to NATS over which it waits: its stream lies in memory and may be lost with the server,
so after a reconnect every ticket that still waits is published again, in order. A ticket that is
delivered twice does no harm, since it is dispatched once. Publishing that fails is tried again.

A slot of another driver that a request of ours uses is *borrowed*. Its release is sent once, over
core NATS, and may be lost; so every second each driver gets the list of what we hold of it, and
for a while after the last one an empty list.
"""

import asyncio
import logging
from math import ceil
from typing import Final

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.connection import Bus, Received
from penstock_common.errors import BusDisconnectedError, PenstockError
from penstock_common.messages import GrantReply, GrantRequest, HeldLeases, Release, Ticket
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import LeaseOutcome, SlotLease

logger = logging.getLogger(__name__)

#: Tickets that are published at once; their acknowledgements come back together.
_BATCH: Final = 64
#: Pause after a publish that failed.
_RETRY_S: Final = 0.5
#: Lists sent to a driver after the last lease of it ended; a driver needs three.
_LAST_LISTS: Final = 5


class Tickets:
    """The tickets and the borrowed slots of this router's clients."""

    def __init__(self, bus: Bus, dispatcher: Dispatcher, clock: Clock) -> None:
        """Nothing is sent before `start`.

        Args:
            bus: of the data path.
            dispatcher: knows who waits.
            clock: tells how long a ticket has left.
        """
        self._bus = bus
        self._clock = clock
        self._dispatcher = dispatcher
        self._router_id = dispatcher.router_id
        self._unpublished: dict[str, Ticket] = {}
        self._wake = asyncio.Event()
        self._borrowed: dict[str, SlotLease] = {}
        self._lists_left: dict[str, int] = {}  # driver → lists that it still gets

    async def start(self) -> None:
        """Listen for grants.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        await self._bus.subscribe(subjects.router_grant(self._router_id), self._on_grant)
        self._bus.on_connect(self.republish)

    # ---- publishing

    def publish(self, ticket: Ticket) -> None:
        """Let this ticket be published, behind those before it."""
        self._unpublished[ticket.ticket_id] = ticket
        self._wake.set()

    def republish(self) -> None:
        """Publish every ticket that waits, in order: the stream may have lost them."""
        self._unpublished = {t.ticket_id: t for t in self._dispatcher.waiting_tickets()}
        self._lists_left |= {lease.driver_id: _LAST_LISTS for lease in self._borrowed.values()}
        self._wake.set()

    async def run(self) -> None:
        """Publish what is to be published, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                await self._bus.wait_ready()
                if not all(await asyncio.gather(*map(self._store, batch))):
                    await asyncio.sleep(_RETRY_S)

    def _next_batch(self) -> list[Ticket]:
        batch: list[Ticket] = []
        for ticket in tuple(self._unpublished.values()):
            if not self._dispatcher.waits(ticket):
                del self._unpublished[ticket.ticket_id]
            elif len(batch) < _BATCH:
                batch.append(ticket)
            else:
                break
        return batch

    async def _store(self, ticket: Ticket) -> bool:
        left_s = (ticket.deadline_at - self._clock.utc()).total_seconds()
        try:
            await self._bus.store(
                subjects.tickets(ticket.endpoint_id),
                ticket.encode(),
                headers={"Nats-TTL": f"{max(1, ceil(left_s))}s"},
            )
        except PenstockError as error:
            logger.warning(
                "ticket not published, will be tried again",
                extra={
                    "action": "ticket_publish_failed",
                    "ticket_id": ticket.ticket_id,
                    "endpoint_id": ticket.endpoint_id,
                    "error_type": error.error_type,
                    "error": str(error),
                },
            )
            return False
        self._unpublished.pop(ticket.ticket_id, None)
        return True

    # ---- grants

    def _on_grant(self, message: Received) -> None:
        try:
            grant = GrantRequest.decode(message.data)
        except ValidationError as error:
            logger.error(
                "grant cannot be read, ignored",
                extra={"action": "grant_unreadable", "error": str(error)},
            )
            return
        accepted = grant.lease_id in self._borrowed or self._take(grant)
        try:
            self._bus.publish_nowait(message.reply, GrantReply(accepted=accepted).encode())
        except BusDisconnectedError:
            # The driver got no answer: it asks again, or learns it from the next list.
            logger.info(
                "grant not answered while disconnected",
                extra={"action": "grant_unanswered", "lease_id": grant.lease_id},
            )

    def _take(self, grant: GrantRequest) -> bool:
        lease = self._dispatcher.dispatch_there(grant)
        if lease is None:
            return False
        self._borrowed[lease.lease_id] = lease
        self._lists_left[lease.driver_id] = _LAST_LISTS
        return True

    # ---- releases

    def give_back(self, lease: SlotLease, outcome: LeaseOutcome, service_time_s: float) -> None:
        """Tell the driver of this borrowed slot that it is free."""
        self._borrowed.pop(lease.lease_id, None)
        self._lists_left[lease.driver_id] = _LAST_LISTS
        release = Release(
            lease_id=lease.lease_id,
            endpoint_id=lease.endpoint_id,
            worker_id=lease.worker_id,
            outcome=outcome,
            service_time_s=service_time_s,
        )
        self._tell(subjects.router_release(lease.driver_id), release)

    def tick(self) -> None:
        """Tell each driver what is held of it; to be called once a second."""
        held: dict[str, list[str]] = {driver_id: [] for driver_id in self._lists_left}
        for lease in self._borrowed.values():
            held.setdefault(lease.driver_id, []).append(lease.lease_id)
        for driver_id, lease_ids in held.items():
            self._tell(
                subjects.router_leases(driver_id),
                HeldLeases(router_id=self._router_id, lease_ids=tuple(lease_ids)),
            )
            if lease_ids:
                self._lists_left[driver_id] = _LAST_LISTS
            else:
                self._lists_left[driver_id] -= 1
                if not self._lists_left[driver_id]:
                    del self._lists_left[driver_id]

    def _tell(self, subject: str, message: Release | HeldLeases) -> None:
        try:
            self._bus.publish_nowait(subject, message.encode())
        except BusDisconnectedError:
            # Lists make up for what is lost; they go on once NATS is back.
            logger.debug("not told while disconnected", extra={"action": "tell_skipped"})
