"""Writes what a plan says into NATS, each assignment under the leader's fence."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import BusTimeoutError, PenstockError, WrongRevisionError
from penstock_common.messages import EndpointStatus, ScaleHistory, WorkerAssignment
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Fence, WatchedTable
from penstock_scheduler.leader import Leadership
from penstock_scheduler.planning.plan import Plan

R = TypeVar("R")

#: Called with endpoint, bucket and key of a row, and its revision now; None = it is deleted.
OnWritten = Callable[[str, str, str, int | None], None]

#: Writes under way at once.
_MOST_WRITES: Final = 128


class PlanWriter:
    """Carries plans out; what had no answer it names until the tables must show it."""

    def __init__(
        self,
        bus: Bus,
        leadership: Leadership,
        clock: Clock,
        *,
        tables: Mapping[str, WatchedTable[Any]],
        on_written: OnWritten,
        on_refused: Callable[[str], None],
    ) -> None:
        """A writer with nothing under way.

        Args:
            bus: the connection for everything but the lease.
            leadership: gives the fence of each write.
            clock: stamps new assignments.
            tables: bucket → what is known of its rows.
            on_written: called after each write of a row.
            on_refused: called with the key of an assignment that was certainly not written.
        """
        self._bus = bus
        self._leadership = leadership
        self._clock = clock
        self._tables = tables
        self._on_written = on_written
        self._on_refused = on_refused
        self._workers = Bucket(bus, subjects.WORKERS)
        self._buckets = {
            bucket: Bucket(bus, bucket)
            for bucket in (subjects.ENDPOINT_STATUS, subjects.SCALE_HISTORY)
        }
        self._turns = asyncio.Semaphore(_MOST_WRITES)
        #: new workers of whose write nobody knows whether it was done
        self.unanswered: set[str] = set()
        #: a table that shows a revision of the lease at least so high shows the end of all of them
        self.lease_needed = 0

    def begin_term(self, token: int) -> None:
        """This process leads from the write of the lease with revision `token` on."""
        self.lease_needed = token
        self.unanswered.clear()

    async def write(self, plan: Plan, *, token: int) -> list[BaseException]:
        """Write what the plan says; all of it is tried, and what failed is returned.

        Args:
            plan: what to write.
            token: of the term in which it was made; in another none of its assignments is written.
        """
        writes: list[Callable[[], Awaitable[None]]] = [
            *(partial(self._write_assignment, a, token, created=True) for a in plan.creates),
            *(partial(self._write_assignment, a, token, created=False) for a in plan.changes),
            *(partial(self._delete_assignment, key, plan, token) for key in plan.deletes),
            *(partial(self._write_row, subjects.ENDPOINT_STATUS, s) for s in plan.statuses),
            *(partial(self._delete_row, subjects.ENDPOINT_STATUS, n) for n in plan.status_deletes),
            *(partial(self._write_row, subjects.SCALE_HISTORY, h) for h in plan.histories),
            *(partial(self._delete_row, subjects.SCALE_HISTORY, n) for n in plan.history_deletes),
        ]
        results = await asyncio.gather(*map(self._in_turn, writes), return_exceptions=True)
        return [result for result in results if result is not None]

    async def _in_turn(self, write: Callable[[], Awaitable[None]]) -> None:
        async with self._turns:
            await write()

    async def _write_assignment(
        self, assignment: WorkerAssignment, token: int, *, created: bool
    ) -> None:
        if created:
            assignment = assignment.model_copy(update={"assigned_at": self._clock.utc()})
        key = subjects.worker_key(assignment.node_id, assignment.worker_id)
        value = assignment.encode()
        try:
            revision = await self._fenced(
                token, lambda fence: self._workers.put(key, value, fence=fence)
            )
        except BusTimeoutError:
            self.unanswered.add(key)
            raise
        except PenstockError:
            self._on_refused(key)
            raise
        self._on_written(assignment.endpoint_id, subjects.WORKERS, key, revision)

    async def _delete_assignment(self, key: str, plan: Plan, token: int) -> None:
        """Remove a worker, once what it has used is written; each step is safe to repeat."""
        usage, mark = plan.usages[key], plan.marks.get(key)
        if mark is not None:
            value = mark.encode()
            revision = await self._fenced(
                token, lambda fence: self._workers.put(key, value, fence=fence)
            )
            self._on_written(usage.endpoint_id, subjects.WORKERS, key, revision)
        with contextlib.suppress(WrongRevisionError):  # an earlier try or leader has written it
            await self._bus.store(
                subjects.usage(usage.worker_id),
                usage.encode(),
                headers={"Nats-Expected-Last-Subject-Sequence": "0"},
            )
        await self._fenced(token, lambda fence: self._workers.delete(key, fence=fence))
        self._on_written(usage.endpoint_id, subjects.WORKERS, key, None)

    async def _fenced(self, token: int, write: Callable[[Fence], Awaitable[R]]) -> R:
        """Do a write under the fence; tried twice, since a renewal may come between."""
        for last in (False, True):
            if not self._leadership.leads or self._leadership.token != token:
                break
            fence = self._leadership.fence
            try:
                return await write(fence)
            except WrongRevisionError:
                if last:
                    raise
            except BusTimeoutError:
                self.lease_needed = max(self.lease_needed, fence.revision + 1)
                raise
        raise WrongRevisionError("this scheduler leads no longer, or again")

    async def _write_row(self, bucket: str, value: EndpointStatus | ScaleHistory) -> None:
        # No fence reaches another stream, but whoever comes late has not seen the last revision.
        key = value.endpoint_id
        row = self._tables[bucket].rows.get(key)
        revision = await self._buckets[bucket].put(
            key, value.encode(), revision=row.revision if row else 0
        )
        self._on_written(key, bucket, key, revision)

    async def _delete_row(self, bucket: str, endpoint_id: str) -> None:
        row = self._tables[bucket].rows.get(endpoint_id)
        if row is not None:
            await self._buckets[bucket].delete(endpoint_id, revision=row.revision)
            self._on_written(endpoint_id, bucket, endpoint_id, None)
