"""Queue reports: what this router tells the scheduler of each endpoint, and when.

A report goes out at once when an endpoint's queue goes from empty to waiting (a request may need
its first worker), else at most every `QUIET_S` when something changed, and every `PERIOD_S` while
anything waits, is in flight, or a worker is driven here. Reports carry whole state: a lost one is
made up for by the next.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import BusDisconnectedError, MessageTooLargeError
from penstock_common.messages import QueueReport, WorkerLoad
from penstock_common.nats.connection import Bus
from penstock_common.sketch import merge
from penstock_common.states import TicketOutcome
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import Lane

logger = logging.getLogger(__name__)

QUIET_S: Final = 0.25
PERIOD_S: Final = 1.0


@dataclass(slots=True)
class _Entry:
    sent_at: float
    changed: bool = False
    urgent: bool = False


class ReportSchedule:
    """When each endpoint's next report is due; plain data, no clock of its own."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def change(self, endpoint_id: str, *, urgent: bool) -> bool:
        """Something to report has changed; gives whether that may make a report due earlier."""
        entry = self._entries.get(endpoint_id)
        if entry is None:
            entry = self._entries[endpoint_id] = _Entry(sent_at=float("-inf"))
        sooner = not entry.changed or (urgent and not entry.urgent)
        entry.changed = True
        entry.urgent = entry.urgent or urgent
        return sooner

    def renew(self) -> None:
        """Every endpoint's next report is due now (those sent may have been lost)."""
        for entry in self._entries.values():
            entry.changed = entry.urgent = True

    def due(self, *, now: float) -> tuple[str, ...]:
        """Endpoints whose report is due."""
        return tuple(i for i, e in self._entries.items() if self._due_at(e) <= now)

    def next_due(self) -> float | None:
        """When the next report is due; None = when something changes."""
        return min(map(self._due_at, self._entries.values()), default=None)

    def sent(self, endpoint_id: str, *, now: float, active: bool) -> None:
        """The endpoint's report went out; while not `active` none follows without a change."""
        if active:
            self._entries[endpoint_id] = _Entry(sent_at=now)
        else:
            del self._entries[endpoint_id]

    @staticmethod
    def _due_at(entry: _Entry) -> float:
        if entry.urgent:
            return float("-inf")
        return entry.sent_at + (QUIET_S if entry.changed else PERIOD_S)


def make_report(lane: Lane, router_id: str, clock: Clock) -> QueueReport:
    """The report of one endpoint as it is now."""
    now = clock.monotonic()
    whole = lane.whole_times.read(now)
    return QueueReport(
        router_id=router_id,
        endpoint_id=lane.endpoint_id,
        sent_at=clock.utc(),
        waiting=len(lane.waiting),
        oldest_wait_s=lane.waiting.oldest_wait_s(now=now),
        in_flight=len(lane.leases),
        arrivals_total=lane.arrivals_total,
        completions_total=lane.completions_total,
        errors_total=lane.errors_total,
        refused_total=lane.waiting.ended(TicketOutcome.REJECTED)
        + lane.waiting.ended(TicketOutcome.EVICTED),
        service_time_s=lane.service_time_s,
        service_times=merge((whole, lane.apart_times.read(now))),
        first_byte_times=merge((whole, lane.begun_times.read(now))),
        workers=tuple(
            WorkerLoad(
                worker_id=worker_id,
                in_flight=lane.slots.leases(worker_id),
                accepting=lane.slots.accepting(worker_id),
                idle_s=lane.slots.idle_s(worker_id, now=now),
                assignment_revision=driven.revision,
                requests_total=lane.slots.requests_total(worker_id),
            )
            for worker_id, driven in lane.driven.items()
            if driven.counted
        ),
    )


class Reporter:
    """Sends the reports."""

    def __init__(self, bus: Bus, dispatcher: Dispatcher, clock: Clock) -> None:
        """A reporter that has nothing to tell yet."""
        self._bus = bus
        self._dispatcher = dispatcher
        self._clock = clock
        self._schedule = ReportSchedule()
        self._wake = asyncio.Event()
        bus.on_connect(self._on_connect)

    def change(self, endpoint_id: str, *, urgent: bool) -> None:
        """Something to report of this endpoint has changed; cheap."""
        if self._schedule.change(endpoint_id, urgent=urgent):
            self._wake.set()

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            due_at = self._schedule.next_due()
            wait_s = None if due_at is None else max(0.0, due_at - self._clock.monotonic())
            if wait_s != 0.0:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # something is due by now
            self._wake.clear()
            self.tick(self._clock.monotonic())
            if not self._bus.connected:
                await self._bus.wait_ready()

    def tick(self, now: float) -> None:
        """Send what is due now; nothing while NATS is away."""
        if not self._bus.connected:
            return
        for endpoint_id in self._schedule.due(now=now):
            self.send(endpoint_id, now)

    def send(self, endpoint_id: str, now: float) -> None:
        """Send one endpoint's report now."""
        lane = self._dispatcher.lanes.get(endpoint_id)
        if lane is not None:
            lane.changed = False
            report = make_report(lane, self._dispatcher.router_id, self._clock)
            try:
                self._bus.publish_nowait(subjects.queue_metrics(endpoint_id), report.encode())
            except BusDisconnectedError:
                return  # sent anew after the reconnect
            except MessageTooLargeError as error:
                logger.error(
                    "queue report too large, not sent",
                    extra={
                        "action": "report_too_large",
                        "endpoint_id": endpoint_id,
                        "workers": len(report.workers),
                        "error": str(error),
                    },
                )
        self._schedule.sent(endpoint_id, now=now, active=lane is not None and not lane.over)

    def _on_connect(self) -> None:
        self._schedule.renew()
        self._wake.set()
