"""The scheduler's loop: snapshot → plan → writes.

A tick is enough to converge; changes of the tables and reports of routers only wake it early, and
those that come while it works are one wake-up together.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.connection import Bus, Received
from penstock_common.entropy import random_id
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.messages import QueueReport, cloud_event
from penstock_scheduler.leader import Leadership
from penstock_scheduler.memory import Memory
from penstock_scheduler.plan import Plan, PlannedEvent
from penstock_scheduler.reconcile import reconcile
from penstock_scheduler.reports import ReportBook
from penstock_scheduler.store import Store

logger = logging.getLogger(__name__)

SOURCE: Final = "/penstock/scheduler"
#: A decision that took longer than this is followed by a pause as long as it took.
_LONG_DECISION_S: Final = 0.005
#: A tick that takes longer than this hangs.
_STUCK_S: Final = 30.0
#: Unreadable reports are logged at most once in so many seconds.
_COMPLAIN_EVERY_S: Final = 60.0


class SchedulerLoop:
    """Decides while this process leads; listens all the time, so as to be ready to."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        leadership: Leadership,
        clock: Clock,
        *,
        poked: asyncio.Event,
        tick_s: float,
        new_worker_id: Callable[[], str] = lambda: random_id(ids.WORKER),
    ) -> None:
        """A loop that is not running.

        Args:
            bus: where events go.
            store: the tables and the writes.
            leadership: whether this process may decide.
            clock: read once per tick.
            poked: set by whatever happened; wakes the loop.
            tick_s: seconds between ticks when nothing happens.
            new_worker_id: gives a fresh worker id.
        """
        self._bus = bus
        self._store = store
        self._leadership = leadership
        self._clock = clock
        self._poked = poked
        self._tick_s = tick_s
        self._new_worker_id = new_worker_id
        self._book = ReportBook()
        self._memory = Memory()
        self._term: int | None = None
        self._complained_at: float | None = None
        #: how long the last decision took
        self._decided_in_s = 0.0
        self._ticking_since: float | None = None

    def problem(self, now: float) -> str | None:
        """What is wrong with this loop at `now` (monotonic seconds); None = nothing."""
        since = self._ticking_since
        if since is None or now - since < _STUCK_S:
            return None
        return f"a decision has not ended for {now - since:.0f} s"

    def hear(self, message: Received) -> None:
        """Take a router's report; the handler of `subjects.QUEUE_METRICS_ALL`."""
        now = self._clock.monotonic()
        try:
            report = QueueReport.decode(message.data)
        except ValidationError as error:
            if self._complained_at is None or now - self._complained_at > _COMPLAIN_EVERY_S:
                self._complained_at = now
                logger.warning(
                    "report cannot be read",
                    extra={
                        "action": "report_unreadable",
                        "subject": message.subject,
                        "error": str(error),
                    },
                )
            return
        if self._book.hear(report, now):
            self._poked.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Tick until `stopping`; whoever sets that also sets `poked`."""
        while not stopping.is_set():
            self._poked.clear()
            self._ticking_since = self._clock.monotonic()
            await self.tick(self._ticking_since)
            self._ticking_since = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await self._poked.wait()
            if self._decided_in_s > _LONG_DECISION_S:
                # However much happens, the lease's renewal and the tables get their turn.
                await asyncio.sleep(min(self._decided_in_s, self._tick_s))

    async def tick(self, now: float) -> Plan | None:
        """Decide once and carry it out.

        Args:
            now: monotonic seconds.

        Returns:
            The plan; None when nothing could be decided: this process does not lead, or its
            tables are not whole or do not show all writes yet.
        """
        self._decided_in_s = 0.0
        if not self._leadership.leads:
            self._term = None
            return None
        token = self._leadership.token
        if token != self._term:
            self._term, self._memory = token, Memory()
            self._store.begin_term(token)
        if not self._store.ready(now):
            return None
        self._book.forget_old(now)
        snapshot = self._store.snapshot(self._book.reports, now)
        plan, self._memory = reconcile(
            snapshot, self._memory, new_id=self._new_worker_id, token=token
        )
        self._decided_in_s = self._clock.monotonic() - now
        if plan:
            await self._carry_out(plan)
        return plan

    async def _carry_out(self, plan: Plan) -> None:
        try:
            await self._store.apply(plan)
        except WrongRevisionError as error:
            leads = await self._leadership.confirm()
            logger.warning(
                "plan refused",
                extra={"action": "plan_refused", "error": str(error), "leads": leads},
            )
        except PenstockError as error:
            # The next tick plans again from what the tables show then.
            await self._leadership.confirm()
            logger.warning(
                "plan not carried out", extra={"action": "plan_failed", "error": str(error)}
            )
        else:
            for event in plan.events:
                self._publish(event)

    def _publish(self, event: PlannedEvent) -> None:
        logger.info(event.type, extra={"action": event.type.rpartition(".")[2], **event.data})
        event_id = random_id(ids.EVENT)
        headers = cloud_event(
            event_id=event_id,
            event_type=event.type,
            source=SOURCE,
            subject=event.about,
            time=self._clock.utc(),
        )
        try:
            self._bus.publish_nowait(
                event.subject,
                json.dumps(event.data).encode(),
                headers={**headers, "Nats-Msg-Id": event_id},
            )
        except PenstockError as error:
            logger.info(
                "event not published",
                extra={"action": "event_dropped", "event": event.type, "error": str(error)},
            )
