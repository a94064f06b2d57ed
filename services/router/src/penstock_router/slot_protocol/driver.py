"""Slots driven here, given to whoever has waited longest: tickets from JetStream and of our own.

Theory of operation. For each endpoint of which this router drives workers there is a pull loop
that asks JetStream for tickets. A ticket that comes joins the endpoint's *backlog*, in the order of
the stream, which is the order of arrival over all routers. A free slot goes to the backlog's head:
an own ticket is dispatched, another router's is offered the slot (`lender.py`).

While this router drives *every* worker of the endpoint (`Lane.sole`) nobody else can serve anybody.
Then its own clients' tickets need not go through JetStream: the older of the backlog's head and the
own waiting list's head is served. And tickets of others are pulled ahead of free slots, up to
`PREFETCH`, so that a slot that comes free is given out in the same turn of the event loop. When
another router gets a worker of the endpoint, own tickets are published and pulled ones handed back.

A ticket is acknowledged when its fate is known. Until then its ack wait is restarted every second,
and if this router dies, JetStream hands it to another.
"""

import asyncio
import logging
from collections import deque
from typing import Final

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.messages import Ticket
from penstock_common.nats.connection import Bus
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.streams import ticket_consumer
from penstock_router.background import Background
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import Lane
from penstock_router.slot_protocol.lender import Lender, Pulled

logger = logging.getLogger(__name__)

#: Tickets that the only driver of an endpoint pulls beyond its free slots.
PREFETCH: Final = 32


class Driver:
    """The pull loops and backlogs of the endpoints that are driven here."""

    def __init__(
        self, bus: Bus, dispatcher: Dispatcher, lender: Lender, background: Background
    ) -> None:
        """Nothing is pulled before `run`.

        Args:
            bus: of the data path.
            dispatcher: has the slots and the waiting clients.
            lender: offers slots to other routers' tickets.
            background: ends pull loops.
        """
        self._bus = bus
        self._dispatcher = dispatcher
        self._lender = lender
        self._background = background
        self._loops: dict[str, PullLoop] = {}
        self._backlogs: dict[str, deque[Pulled]] = {}
        self._changed = asyncio.Event()
        self._stopping = False

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
            handler=lambda message: self.on_ticket(endpoint_id, loop, message),
        )
        return loop

    def _capacity(self, endpoint_id: str) -> int:
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is None or self._stopping or not lane.accepts:
            return 0
        ahead = PREFETCH if lane.sole else 0
        return lane.slots.free + ahead - len(self._backlogs.get(endpoint_id, ()))

    async def stop(self) -> None:
        """Pull no more; tickets that wait here go to other drivers. Lent slots stay lent."""
        self._stopping = True
        loops, self._loops = self._loops, {}
        for endpoint_id in loops:
            self._hand_back(endpoint_id)
        if loops:
            await asyncio.gather(*(loop.stop() for loop in loops.values()))

    def _hand_back(self, endpoint_id: str, *, keep: int = 0) -> None:
        """Give pulled tickets to other drivers, all but the first few."""
        backlog = self._backlogs.get(endpoint_id)
        while backlog and len(backlog) > keep:
            backlog.pop().nak()

    # ---- tickets to slots

    def workers_changed(self) -> None:
        """Workers may have come or gone: look whether pull loops have to."""
        self._changed.set()

    def slots_freed(self, endpoint_id: str) -> None:
        """A slot is free: serve who waits, then ask for more."""
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is None:
            return
        backlog = self._backlogs.get(endpoint_id)
        if not self._bus.connected:
            self._dispatcher.serve_locally(endpoint_id)
        elif backlog or (lane.waiters and lane.sole):
            self._serve(lane)
        loop = self._loops.get(endpoint_id)
        # While anything is asked for, what comes on it asks for more.
        if loop is not None and not loop.asked:
            loop.poke()

    def client_waits(self, endpoint_id: str) -> None:
        """A client of this router waits: slots that others do not use are for it."""
        self._recall(endpoint_id)

    def on_ticket(self, endpoint_id: str, loop: PullLoop, message: Delivered) -> None:
        """JetStream hands out a ticket."""
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
            loop.term(message)
            return
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is None:
            loop.nak(message)
            return
        backlog = self._backlogs.setdefault(endpoint_id, deque())
        backlog.append(Pulled(ticket, message, loop))
        self._serve(lane)
        if backlog:
            self._recall(endpoint_id)

    def _serve(self, lane: Lane) -> None:
        """Free slots to those who wait, in order."""
        backlog = self._backlogs.get(lane.endpoint_id)
        while True:
            pulled = self._next_pulled(backlog)
            own = lane.head() if lane.sole and lane.waiters else None
            if own is not None and (
                pulled is None or own.ticket.enqueued_at <= pulled.ticket.enqueued_at
            ):
                if not self._dispatcher.dispatch_here(own.ticket):
                    return
            elif pulled is None or backlog is None or not self._try_serve(pulled):
                return
            else:
                backlog.popleft()

    def _next_pulled(self, backlog: deque[Pulled] | None) -> Pulled | None:
        """The first pulled ticket that may still wait; own ones that do not are settled."""
        while backlog:
            ticket = backlog[0].ticket
            if ticket.router_id != self._dispatcher.router_id or self._dispatcher.waits(ticket):
                return backlog[0]
            backlog.popleft().ack()
        return None

    def _try_serve(self, pulled: Pulled) -> bool:
        """Whether this ticket needs the backlog no more."""
        if pulled.ticket.router_id != self._dispatcher.router_id:
            return self._lender.try_offer(pulled)
        if not self._dispatcher.dispatch_here(pulled.ticket):
            return False
        pulled.ack()
        return True

    def _recall(self, endpoint_id: str) -> None:
        if len(self._lender):
            self._lender.recall(endpoint_id)

    # ---- time and connection

    def tick(self) -> None:
        """Keep what is pulled and can be served here; to be called once a second."""
        for endpoint_id in tuple(self._backlogs):
            lane = self._dispatcher.lanes.get(endpoint_id)
            if lane is None or not lane.accepts:
                self._hand_back(endpoint_id)
                continue
            self._serve(lane)
            self._hand_back(endpoint_id, keep=PREFETCH if lane.sole else lane.slots.free)
            backlog = self._backlogs[endpoint_id]
            for pulled in backlog:
                pulled.hold()
            if backlog:
                self._recall(endpoint_id)
        for endpoint_id, lane in self._dispatcher.lanes.items():
            if lane.waiters:
                self._recall(endpoint_id)
            loop = self._loops.get(endpoint_id)
            if loop is not None:
                loop.poke()

    def disconnected(self) -> None:
        """What was pulled cannot be settled any more; if its stream lives, it comes again."""
        self._backlogs.clear()
        for endpoint_id in tuple(self._dispatcher.lanes):
            self._dispatcher.serve_locally(endpoint_id)
