"""The scheduler's loop: snapshot → plan → writes.

A pass over all endpoints is enough to converge; changes of the tables and reports of routers only
bring the endpoints that they name to their turn early (`agenda.py`). Pokes that come while it works
are decided on together.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.entropy import random_id
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.events.catalogue import Event
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import QueueReport
from penstock_common.nats.connection import Received
from penstock_scheduler.agenda import Agenda
from penstock_scheduler.decision.memory import Memory
from penstock_scheduler.decision.reconcile import reconcile
from penstock_scheduler.leader import Leadership
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.store.reports import ReportBook
from penstock_scheduler.store.store import Store

logger = logging.getLogger(__name__)

#: While nothing can be decided, how often to see whether something can; a gain of the lease and a
#: table that is whole wake the loop as well.
_NOT_READY_S: Final = 0.5
#: Writes of a plan that take longer than this hang.
_STUCK_S: Final = 30.0
#: Unreadable reports are logged at most once in so many seconds.
_COMPLAIN_EVERY_S: Final = 60.0


class SchedulerLoop:
    """Decides while this process leads; listens all the time, so as to be ready to."""

    def __init__(
        self,
        events: EventPublisher,
        store: Store,
        leadership: Leadership,
        clock: Clock,
        *,
        agenda: Agenda,
        poked: asyncio.Event,
        new_worker_id: Callable[[], str] = lambda: random_id(ids.WORKER),
    ) -> None:
        """A loop that is not running.

        Args:
            events: tells what was decided.
            store: the tables and the writes.
            leadership: whether this process may decide.
            clock: read once per decision.
            agenda: what to decide on.
            poked: set by whatever happened; wakes the loop.
            new_worker_id: gives a fresh worker id.
        """
        self._events = events
        self._store = store
        self._leadership = leadership
        self._clock = clock
        self._agenda = agenda
        self._poked = poked
        self._new_worker_id = new_worker_id
        self._book = ReportBook()
        self._memory = Memory()
        self._term: int | None = None
        #: endpoints of plans that are being written, and those of them that were due meanwhile
        self._writing: set[str] = set()
        self._due_again: set[str] = set()
        #: endpoints of plans that were not carried out
        self._failed: set[str] = set()
        self._complained_at: float | None = None
        #: plans that are being written, and since when
        self._written_since: dict[int, float] = {}

    def problem(self, now: float) -> str | None:
        """What is wrong with this loop at `now` (monotonic seconds); None = nothing."""
        since = min(self._written_since.values(), default=now)
        if now - since < _STUCK_S:
            return None
        return f"the writes of a decision have not ended for {now - since:.0f} s"

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
            self._agenda.poke(report.endpoint_id)
            self._poked.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Decide until `stopping`; whoever sets that also sets `poked`.

        Plans are written while others are decided on: how long a write takes is the server's and
        its disk's, and concerns the endpoints of that plan alone.
        """
        async with asyncio.TaskGroup() as writes:
            while not stopping.is_set():
                self._poked.clear()
                decided = self.tick(self._clock.monotonic(), writes)
                pause_s = self._agenda.wait_s(self._clock.monotonic()) if decided else _NOT_READY_S
                if pause_s:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await self._poked.wait()
                # However much happens, the lease's renewal and the tables get their turn.
                await asyncio.sleep(0)

    def tick(self, now: float, writes: asyncio.TaskGroup) -> bool:
        """Decide on what is due.

        Args:
            now: monotonic seconds.
            writes: where the plan is carried out.

        Returns:
            False when nothing can be decided: this process does not lead, or its tables are not
            whole.
        """
        if not self._leadership.leads:
            self._term = None
            return False
        token = self._leadership.token
        if token != self._term:
            self._term, self._memory = token, Memory()
            self._store.begin_term(token)
            self._agenda.poke_all()
        if not self._store.ready(now):
            return False
        concerned = self._begin_pass(now) if self._agenda.pass_due(now) else None
        due = self._agenda.take(now) | (concerned or set())
        if self._store.take_freed():
            due |= self._memory.lacking
        due |= self._store.take_owned(self._memory.over_quota)
        plan = self._decide(due, now, fleet_wide=concerned is not None)
        if plan:
            written = self._store.endpoints_of(plan)
            self._writing |= written
            writes.create_task(self._carry_out(plan, written, token), name="plan")
        return True

    def _begin_pass(self, now: float) -> set[str]:
        """Begin to look at all endpoints; gives those of steps that concern several at once."""
        self._book.forget_old(now)
        self._store.forget_old(now)
        view, reports = self._store.view, self._book.reports
        endpoint_ids = view.known()
        if not self._agenda.whole:
            endpoint_ids = {
                name
                for name in endpoint_ids
                if name in self._failed or not view.at_rest(name, self._memory, reports)
            }
        self._failed.clear()
        self._agenda.begin_pass(view.in_order(endpoint_ids, reports), now)
        return view.concerned_fleet_wide(self._memory, reports)

    def _decide(self, endpoint_ids: set[str], now: float, *, fleet_wide: bool) -> Plan | None:
        self._due_again |= endpoint_ids & self._writing
        shown = [n for n in endpoint_ids - self._writing if self._store.shows(n, now)]
        # A fleet-wide one may be due for nodes alone.
        if not (shown or fleet_wide) or not self._leadership.leads:
            return None
        snapshot = self._store.snapshot(shown, self._book.reports, now, fleet_wide=fleet_wide)
        plan, self._memory = reconcile(
            snapshot,
            self._memory,
            new_id=self._new_worker_id,
            token=self._leadership.token,
            ledger=self._store.view.ledger,
        )
        return plan

    async def _carry_out(self, plan: Plan, endpoint_ids: set[str], token: int) -> None:
        self._written_since[id(plan)] = self._clock.monotonic()
        try:
            if not await self._write(plan, token):
                self._failed |= endpoint_ids
        finally:
            self._writing -= endpoint_ids
            del self._written_since[id(plan)]
        for endpoint_id in endpoint_ids & self._due_again:
            self._agenda.poke(endpoint_id)
            self._poked.set()
        self._due_again -= endpoint_ids

    async def _write(self, plan: Plan, token: int) -> bool:
        """Write a plan and tell its events; gives whether all of it was written."""
        try:
            await self._store.apply(plan, token=token)
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
                self._tell(event)
            return True
        return False

    def _tell(self, event: Event) -> None:
        logger.info(
            event.type.name,
            extra={"action": event.type.verb, **event.data.model_dump(mode="json")},
        )
        self._events.announce(event)
