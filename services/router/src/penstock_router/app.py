"""A whole router: its parts, wired, started, ticked, drained."""

import asyncio
import logging
import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from penstock_common import ids, lifecycle
from penstock_common.clock import Clock
from penstock_common.entropy import random_id
from penstock_common.messages import RouterRecord, Ticket
from penstock_common.nats import streams
from penstock_common.nats.connection import Bus
from penstock_router.background import Background
from penstock_router.catalogue import Catalogue, WorkerView
from penstock_router.dispatch import Dispatcher
from penstock_router.ejections import Ejections
from penstock_router.gate import Gate
from penstock_router.heartbeat import Heartbeat
from penstock_router.key_uses import KeyUseReporter
from penstock_router.lanes import LeaseOutcome
from penstock_router.liveness import LOST_S, Liveness
from penstock_router.loans import Loan, Loans
from penstock_router.picker import POLICIES
from penstock_router.proxy.server import ProxyServer
from penstock_router.proxy.upstream import Upstream
from penstock_router.reports import Reporter
from penstock_router.roster import Roster
from penstock_router.settings import RouterSettings
from penstock_router.sight import Sightings
from penstock_router.slot_protocol.borrower import Borrower
from penstock_router.slot_protocol.claims import Reigns
from penstock_router.slot_protocol.driver import Driver
from penstock_router.slot_protocol.handover import Handover
from penstock_router.slot_protocol.lender import Lender
from penstock_router.slot_protocol.tickets import Tickets
from penstock_router.slot_protocol.wire import Wire
from penstock_router.tables import Tables

logger = logging.getLogger(__name__)

#: Read once: when it is told there may be no file left to open.
_VERSION: Final = version("penstock-router")

TICK_S: Final = 1.0
#: Between looks for borrowed slots that were kept for too long.
SWEEP_S: Final = 0.25
#: A router whose record is so old does as if others took it for dead, which they do at `LOST_S`.
CUT_OFF_S: Final = LOST_S - 2.0


class Router:
    """One router. `start`, then `run` until `stop` was called; then `close`."""

    def __init__(
        self,
        settings: RouterSettings,
        *,
        bus: Bus,
        beat_bus: Bus,
        clock: Clock,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        """A router that is not started; needs a running event loop.

        Args:
            settings: of this process.
            bus: for tickets, tables and reports; the caller closes it.
            beat_bus: for heartbeats; the caller closes it.
            clock: the machine's.
            new_id: a fresh id with this prefix.
        """
        self.router_id = settings.router_id or new_id(ids.ROUTER)
        self.url = settings.public_url or ""
        #: says whether this router serves; asked on this host
        self.health_url = ""
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._stopping = False
        self._started_at = clock.utc()
        self._background = Background()
        self._liveness = Liveness()
        self._catalogue = Catalogue()
        self._upstream = Upstream(settings)
        self._ejections = Ejections(
            self._upstream.probe,
            self._background,
            find=self._find_driven,
            on_readmit=self._on_endpoint,
        )
        self._loans = Loans()
        self.dispatcher = Dispatcher(
            router_id=self.router_id,
            catalogue=self._catalogue,
            policy=POLICIES[settings.balance],
            clock=clock,
            new_id=new_id,
            events=self,
            loans=self._loans,
        )
        self._tickets = Tickets(bus, self.dispatcher, clock)
        self._wire_up(bus, new_id)
        self._reporter = Reporter(bus, self.dispatcher, clock)
        self._heartbeat = Heartbeat(beat_bus, self.router_id, self._record, clock)
        self._tables = Tables(
            bus,
            self._catalogue,
            on_endpoint=self._on_endpoint,
            on_router=self._on_record,
            on_row=lambda bucket, key: self._sightings.look(bucket, key),
        )
        self._sightings = Sightings(Wire(bus), self.router_id, self._tables.shows, clock)
        self._key_uses = KeyUseReporter(bus, self.router_id, self._catalogue.take_used_keys, clock)
        gate = Gate(
            settings=settings,
            catalogue=self._catalogue,
            dispatcher=self.dispatcher,
            new_id=new_id,
            is_ready=lambda: not self._stopping,
            on_connect_failed=self._on_connect_failed,
        )
        self._server = ProxyServer(gate, self._upstream, settings)
        bus.on_disconnect(self._on_disconnect)
        bus.on_connect(self._on_connect)

    def _wire_up(self, bus: Bus, new_id: Callable[[str], str]) -> None:
        """The parts of the slot protocol between routers."""
        wire = Wire(bus)
        boot_id = new_id(ids.ROUTER)
        reigns = Reigns()
        self.lender = Lender(
            wire,
            self.dispatcher,
            clock=self._clock,
            new_id=new_id,
            boot_id=boot_id,
            epoch_of=reigns.epoch,
            is_lost=self._is_lost,
            on_heard=self._on_router,
            on_connect_failed=self._on_connect_failed,
        )
        self._borrower = Borrower(
            wire,
            self.dispatcher,
            self._loans,
            reigns,
            catalogue=self._catalogue,
            clock=self._clock,
            boot_id=boot_id,
        )
        self._handover = Handover(
            wire,
            self.dispatcher,
            self.lender,
            reigns,
            catalogue=self._catalogue,
            clock=self._clock,
            boot_id=boot_id,
            living=self._living,
            on_settled=self._on_endpoint,
        )
        self._roster = Roster(
            self.dispatcher,
            self._catalogue,
            clock=self._clock,
            events=self,
            ejected=self._ejections.holds,
            reigns=self._handover.reigns,
            on_other=self._handover.on_other,
            on_closed=self.lender.recall,
            no_capacity_wait_s=self._settings.no_capacity_wait_s,
        )
        self.driver = Driver(bus, self.dispatcher, self.lender, self._background)

    # ---- life

    async def start(self) -> None:
        """Read all tables, then listen.

        Raises:
            PenstockError: NATS is away or lacks a bucket.
            MisconfiguredError: the address cannot be listened on.
        """
        await self._borrower.start()
        await self.lender.start()
        await self._handover.start()
        await self._sightings.start()
        await self._heartbeat.beat()  # before anything can be held: drivers ask those with a record
        await self._tables.start()
        self._handover.started()
        port = await self._server.start()
        host = self._settings.host
        local_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.url = self.url or local_url
        self.health_url = f"{local_url}/readyz"
        await self._heartbeat.beat()

    async def run(self) -> None:
        """Do what is to be done beside requests, for ever; its end is an error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tickets.run(), name="tickets")
            group.create_task(self.driver.run(), name="driver")
            group.create_task(self._reporter.run(), name="reporter")
            group.create_task(self._heartbeat.run(), name="heartbeat")
            group.create_task(self._tick_for_ever(), name="ticker")
            group.create_task(self._sweep_for_ever(), name="sweeper")

    async def drain(self) -> None:
        """Take no new request and finish what is in flight, for at most `drain_timeout_s`."""
        self._stopping = True
        self.dispatcher.stop()
        for endpoint_id in tuple(self.dispatcher.lanes):
            self._roster.refresh(endpoint_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.driver.stop(), name="stop-driver")
            group.create_task(
                self._server.drain(self._settings.drain_timeout_s), name="drain-server"
            )

    async def close(self) -> None:
        """End everything; requests that are left are cut."""
        await self._server.close()
        await self._heartbeat.remove()
        await self._background.close()
        await self._tables.stop()
        await self._upstream.close()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.tick(self._clock.monotonic())

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._borrower.sweep(self._clock.monotonic())

    def tick(self, now: float) -> None:
        """Everything that is due once a second; alone enough to converge."""
        self._liveness.watch(whole=self._tables.routers_whole, now=now)
        self._liveness.forget(self._tables.routers, now=now)
        self._look_for_partition(now)
        self._handover.tick(now)
        self._roster.tick(now)
        self.driver.workers_changed()
        self.driver.tick()
        self.lender.tick(now)
        self._borrower.sweep(now)
        self._borrower.tick()
        self._sightings.tick(now)
        self._key_uses.tick(now)

    def _look_for_partition(self, now: float) -> None:
        """Whether others may take this router for dead, and give its workers to another."""
        loans, roster = self._loans, self._roster
        cut_off = now - self._heartbeat.written_at >= CUT_OFF_S or (
            loans.suspended and not self._tables.whole
        )
        if cut_off == loans.suspended:
            return
        loans.suspended = cut_off
        roster.fenced = cut_off and self._settings.on_partition == "fence"
        logger.warning(
            "cut off from NATS" if cut_off else "no longer cut off from NATS",
            extra={
                "action": "partition_began" if cut_off else "partition_ended",
                "on_partition": self._settings.on_partition,
            },
        )

    # ---- DispatchEvents

    def ticket_waits(self, ticket: Ticket, *, publish: bool) -> None:
        """A client waits."""
        if publish:
            self._tickets.publish(ticket)
        if not self._bus.connected:
            self.dispatcher.serve_locally(ticket.endpoint_id)
        self.driver.client_waits(ticket.endpoint_id)

    def slots_freed(self, endpoint_id: str) -> None:
        """A slot that this router drives is free."""
        self.driver.slots_freed(endpoint_id)

    def loan_ended(self, loan: Loan, outcome: LeaseOutcome) -> None:
        """A borrowed slot goes back."""
        self._borrower.give_back(loan, outcome)

    def lane_made(self, endpoint_id: str) -> None:
        """A lane was made."""
        self._roster.refresh(endpoint_id)

    def load_changed(self, endpoint_id: str, *, urgent: bool) -> None:
        """Something that a queue report tells has changed."""
        self._reporter.change(endpoint_id, urgent=urgent)

    # ---- what the parts tell each other

    def _on_endpoint(self, endpoint_id: str) -> None:
        self._roster.refresh(endpoint_id)
        self._borrower.drop_unfit(endpoint_id)
        self._handover.pursue()
        self.driver.workers_changed()

    def _on_record(self, record: RouterRecord) -> None:
        if record.left:
            self._liveness.left(record.router_id)
            self._handover.pursue()
        else:
            self._on_router(record.router_id)

    def _on_router(self, router_id: str) -> None:
        self._liveness.heard(router_id, now=self._clock.monotonic())

    def _on_disconnect(self) -> None:
        self._liveness.watch(whole=False, now=self._clock.monotonic())
        self.lender.disconnected()
        self.driver.disconnected()

    def _on_connect(self) -> None:
        self._tickets.republish()
        self._borrower.reconnected()

    def _living(self) -> frozenset[str] | None:
        if not self._tables.routers_whole:
            return None
        return self._liveness.living(self._tables.routers, now=self._clock.monotonic())

    def _is_lost(self, router_id: str) -> bool:
        now = self._clock.monotonic()
        return self._liveness.is_lost(router_id, self._tables.routers, now=now)

    def _on_connect_failed(self, endpoint_id: str, worker_id: str) -> None:
        if self._ejections.eject(endpoint_id, worker_id):
            self._roster.refresh(endpoint_id)

    def _find_driven(self, endpoint_id: str, worker_id: str) -> WorkerView | None:
        for view in self._catalogue.workers(endpoint_id):
            if view.assignment.worker_id == worker_id:
                return view if view.assignment.driver == self.router_id else None
        return None

    def _record(self, beat: int) -> RouterRecord:
        return RouterRecord(
            router_id=self.router_id,
            hostname=socket.gethostname(),
            url=self.url,
            version=_VERSION,
            started_at=self._started_at,
            beat=beat,
        )


async def serve(stopping: asyncio.Event, settings: RouterSettings, clock: Clock) -> None:
    """Run a router until `stopping` is set, then drain it.

    Raises:
        PenstockError: NATS was not there within 30 s, or the router cannot start.
        ExceptionGroup: one of its loops failed.
    """
    bus = await Bus.connect(settings, name="router", clock=clock)
    try:
        # Leases and heartbeats have a connection of their own, which traffic never delays.
        beat_bus = await Bus.connect(settings, name="router-beats", clock=clock)
        try:
            for each in (bus, beat_bus):  # each must find its buckets after a reconnect
                await streams.ensure_streams(each, replicas=settings.nats_replicas)
            await streams.check_durability(bus, settings.nats_monitor_url)
            await _serve_over(stopping, settings, bus=bus, beat_bus=beat_bus, clock=clock)
        finally:
            await beat_bus.close()
    finally:
        await bus.close()


async def _serve_over(
    stopping: asyncio.Event,
    settings: RouterSettings,
    *,
    bus: Bus,
    beat_bus: Bus,
    clock: Clock,
) -> None:
    router = Router(settings, bus=bus, beat_bus=beat_bus, clock=clock)
    running: asyncio.Task[None] | None = None
    try:
        await router.start()
        running = asyncio.create_task(router.run(), name="router")
        lifecycle.notify_ready(health_url=router.health_url, url=router.url)
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if running.done():
            await running  # raises: a loop has failed
        await router.drain()
    finally:
        if running is not None:
            # First of all, so that no heartbeat follows the record's removal.
            running.cancel()
            await asyncio.wait({running})
        await router.close()
