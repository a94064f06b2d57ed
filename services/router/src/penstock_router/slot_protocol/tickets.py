"""Tickets of this router's waiting clients, into JetStream.

A ticket is published once for each connection to NATS over which it waits: its stream lies in
memory and may be lost with the server, so after a reconnect every ticket that still waits is
published again, in order. A ticket that is delivered twice does no harm, since it is dispatched
once. Publishing that fails is tried again.
"""

import asyncio
import logging
from math import ceil
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.messages import Ticket
from penstock_common.nats.connection import Bus
from penstock_router.dispatch import Dispatcher

logger = logging.getLogger(__name__)

#: Tickets that are published at once; their acknowledgements come back together.
_BATCH: Final = 64
#: Pause after a publish that failed.
_RETRY_S: Final = 0.5


class Tickets:
    """Publishes the tickets of this router's clients."""

    def __init__(self, bus: Bus, dispatcher: Dispatcher, clock: Clock) -> None:
        """Nothing is sent before `run`.

        Args:
            bus: of the data path.
            dispatcher: knows who waits.
            clock: tells how long a ticket has left.
        """
        self._bus = bus
        self._clock = clock
        self._dispatcher = dispatcher
        self._unpublished: dict[str, Ticket] = {}
        self._wake = asyncio.Event()

    def publish(self, ticket: Ticket) -> None:
        """Let this ticket be published, behind those before it."""
        self._unpublished[ticket.ticket_id] = ticket
        self._wake.set()

    def republish(self) -> None:
        """Publish every ticket that waits, in order: the stream may have lost them."""
        self._unpublished = {t.ticket_id: t for t in self._dispatcher.waiting_tickets()}
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
