"""What the scheduler reads from NATS KV and writes to it.

Reads come from watched tables, which lag behind writes by a moment. A decision made in that moment
would start a worker twice; so `ready` is false until the tables show

- everything this process has written,
- everything earlier leaders have written: the lease lies in the same stream as the assignments, so
  a table that shows this term's lease shows all that was written before it,
- the end of a write that had no answer: it carried a fence, so it is done before the lease's next
  renewal or never.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.connection import Bus
from penstock_common.errors import BusTimeoutError, WrongRevisionError
from penstock_common.kv import Bucket, Fence, Row, WatchedTable
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeOrder,
    NodeRecord,
    RouterRecord,
    ScaleHistory,
    UsageRecord,
    VolumeRecord,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_scheduler.leader import Leadership
from penstock_scheduler.plan import Plan
from penstock_scheduler.presence import Presence
from penstock_scheduler.snapshot import HeardReport, Snapshot, Tables, build_snapshot

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

#: Writes under way at once.
_BATCH: Final = 128
#: A write that the table does not show after so long will not be waited for any longer.
_SHOWS_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Expected:
    """A write that the table is to show: the row at least as new, or None = the row gone."""

    revision: int | None
    since: float


class Store:
    """The scheduler's tables, and its one way to write."""

    def __init__(
        self,
        bus: Bus,
        leadership: Leadership,
        clock: Clock,
        *,
        lost_after_s: float,
        settle_s: float,
        on_change: Callable[[], None],
    ) -> None:
        """A store that is not started.

        Args:
            bus: the connection for everything but the lease.
            leadership: gives the fence of each write.
            clock: stamps heartbeats and writes.
            lost_after_s: silence after which a node or router is lost.
            settle_s: time after a (re)connect in which heartbeats may still be missing.
            on_change: called when any table changes or is whole again.
        """
        self._bus = bus
        self._leadership = leadership
        self._clock = clock
        self._settle_s = settle_s
        self._on_change = on_change
        self._nodes_seen = Presence(lost_after_s=lost_after_s)
        self._routers_seen = Presence(lost_after_s=lost_after_s)
        self._workers = Bucket(bus, subjects.WORKERS)
        self._statuses = Bucket(bus, subjects.ENDPOINT_STATUS)
        self._histories = Bucket(bus, subjects.SCALE_HISTORY)
        self._expected_workers: dict[str, _Expected] = {}
        self._expected_statuses: dict[str, _Expected] = {}
        self._expected_histories: dict[str, _Expected] = {}
        #: the assignments' table must show a revision of the lease at least so high
        self._lease_needed = 0

        def changed(key: str, row: object) -> None:
            on_change()

        self.endpoints = WatchedTable(
            bus, subjects.ENDPOINTS, EndpointRecord.decode, on_change=changed, on_synced=on_change
        )
        self.endpoint_statuses = WatchedTable(
            bus,
            subjects.ENDPOINT_STATUS,
            EndpointStatus.decode,
            on_change=changed,
            on_synced=on_change,
        )
        self.histories = WatchedTable(
            bus, subjects.SCALE_HISTORY, ScaleHistory.decode, on_change=changed, on_synced=on_change
        )
        self.assignments = WatchedTable(
            bus,
            subjects.WORKERS,
            _decode_assignment,
            on_change=self._note_assignment,
            on_synced=on_change,
        )
        self.worker_statuses = WatchedTable(
            bus, subjects.WORKER_STATUS, WorkerStatus.decode, on_change=changed, on_synced=on_change
        )
        self.volumes = WatchedTable(
            bus, subjects.VOLUMES, VolumeRecord.decode, on_change=changed, on_synced=on_change
        )
        self.nodes = WatchedTable(
            bus,
            subjects.NODES,
            NodeRecord.decode,
            on_change=partial(self._note_heartbeat, self._nodes_seen),
            on_synced=partial(self._note_synced, self._nodes_seen),
        )
        self.node_orders = WatchedTable(
            bus, subjects.NODE_ORDERS, NodeOrder.decode, on_change=changed, on_synced=on_change
        )
        self.routers = WatchedTable(
            bus,
            subjects.ROUTERS,
            RouterRecord.decode,
            on_change=self._note_router,
            on_synced=partial(self._note_synced, self._routers_seen),
        )
        self.api_keys = WatchedTable(
            bus, subjects.API_KEYS, ApiKeyRecord.decode, on_change=changed, on_synced=on_change
        )
        self._tables: tuple[WatchedTable[object], ...] = (
            self.endpoints,
            self.endpoint_statuses,
            self.histories,
            self.assignments,
            self.worker_statuses,
            self.volumes,
            self.nodes,
            self.node_orders,
            self.routers,
            self.api_keys,
        )  # type: ignore[assignment]  # a table of T is read here only for what all have

    async def start(self) -> None:
        """Begin to watch, and wait until every table is whole.

        Raises:
            BusTimeoutError: one could not be listed.
        """
        await asyncio.gather(*(table.start() for table in self._tables))

    async def stop(self) -> None:
        """End the watches."""
        await asyncio.gather(*(table.stop() for table in self._tables))

    def begin_term(self, token: int) -> None:
        """This process leads from the write of the lease with revision `token` on."""
        self._lease_needed = token
        self._expected_workers.clear()
        self._expected_statuses.clear()
        self._expected_histories.clear()

    def ready(self, now: float) -> bool:
        """Whether the tables are whole and show all writes that a decision must know of."""
        lease = self.assignments.rows.get(subjects.SCHEDULER_LEASE_KEY)
        return (
            all(table.synced for table in self._tables)
            and lease is not None
            and lease.revision >= self._lease_needed
            and _shows(self.assignments.rows, self._expected_workers, now)
            and _shows(self.endpoint_statuses.rows, self._expected_statuses, now)
            and _shows(self.histories.rows, self._expected_histories, now)
        )

    def snapshot(self, reports: Mapping[tuple[str, str], HeardReport], now: float) -> Snapshot:
        """The view of everything at `now`; only while `ready`."""
        assignments = {
            key: (row.value, row.revision)
            for key, row in self.assignments.rows.items()
            if row.value is not None
        }
        tables = Tables(
            endpoints=_values(self.endpoints.rows),
            endpoint_statuses=_values(self.endpoint_statuses.rows),
            histories=_values(self.histories.rows),
            nodes=_values(self.nodes.rows),
            node_orders=_values(self.node_orders.rows),
            routers=frozenset(self.routers.rows),
            assignments=assignments,
            worker_statuses=_values(self.worker_statuses.rows),
            volumes=_values(self.volumes.rows),
            api_keys=_values(self.api_keys.rows),
        )
        nodes = {assignment.node_id for assignment, _ in assignments.values()}
        routers = {router for _, router in reports} | {
            assignment.driver for assignment, _ in assignments.values() if assignment.driver
        }
        synced_at = max(self._nodes_seen.synced_at or 0.0, self._routers_seen.synced_at or 0.0)
        return build_snapshot(
            tables,
            reports,
            now=now,
            utc=self._clock.utc(),
            lost_nodes=self._nodes_seen.lost(nodes, present=tables.nodes, now=now),
            lost_routers=self._routers_seen.lost(routers, present=tables.routers, now=now),
            settled=now - synced_at >= self._settle_s,
        )

    # ---- writes

    async def apply(self, plan: Plan) -> None:
        """Write what the plan says; all of it is tried even if some fails.

        Raises:
            WrongRevisionError: this process leads no longer, or somebody else wrote a status.
            BusDisconnectedError, BusTimeoutError, NoRespondersError, BusRefusedError: as for
                `Bucket.put`; what was not written is planned again.
        """
        writes: list[Callable[[], Awaitable[None]]] = [
            *(partial(self._write_assignment, a, created=True) for a in plan.creates),
            *(partial(self._write_assignment, a, created=False) for a in plan.changes),
            *(
                partial(self._delete_assignment, key, plan.usages[key], plan.marks.get(key))
                for key in plan.deletes
            ),
            *(partial(self._write_status, status) for status in plan.statuses),
            *(partial(self._delete_status, endpoint_id) for endpoint_id in plan.status_deletes),
            *(partial(self._write_history, history) for history in plan.histories),
            *(partial(self._delete_history, endpoint_id) for endpoint_id in plan.history_deletes),
        ]
        failures: list[BaseException] = []
        for start in range(0, len(writes), _BATCH):
            results = await asyncio.gather(
                *(write() for write in writes[start : start + _BATCH]), return_exceptions=True
            )
            failures += [result for result in results if result is not None]
        if failures:
            # The one that says most: a lost lease, else whatever came first.
            raise next((f for f in failures if isinstance(f, WrongRevisionError)), failures[0])

    async def _write_assignment(self, assignment: WorkerAssignment, *, created: bool) -> None:
        if created:
            assignment = assignment.model_copy(update={"assigned_at": self._clock.utc()})
        key = subjects.worker_key(assignment.node_id, assignment.worker_id)
        value = assignment.encode()
        revision = await self._fenced(lambda fence: self._workers.put(key, value, fence=fence))
        self._expected_workers[key] = _Expected(revision, self._clock.monotonic())

    async def _delete_assignment(
        self, key: str, usage: UsageRecord, mark: WorkerAssignment | None
    ) -> None:
        """Remove a worker, once what it has used is written; each step is safe to repeat."""
        if mark is not None:
            value = mark.encode()
            await self._fenced(lambda fence: self._workers.put(key, value, fence=fence))
        with contextlib.suppress(WrongRevisionError):  # an earlier try or leader has written it
            await self._bus.store(
                subjects.usage(usage.worker_id),
                usage.encode(),
                headers={"Nats-Expected-Last-Subject-Sequence": "0"},
            )
        await self._fenced(lambda fence: self._workers.delete(key, fence=fence))
        self._expected_workers[key] = _Expected(None, self._clock.monotonic())

    async def _fenced(self, write: Callable[[Fence], Awaitable[R]]) -> R:
        """Do a write under the fence; tried twice, since a renewal may come between."""
        for last in (False, True):
            if not self._leadership.leads:
                break
            fence = self._leadership.fence
            try:
                return await write(fence)
            except WrongRevisionError:
                if last:
                    raise
            except BusTimeoutError:
                self._lease_needed = max(self._lease_needed, fence.revision + 1)
                raise
        raise WrongRevisionError("this scheduler leads no longer")

    async def _write_status(self, status: EndpointStatus) -> None:
        # No fence reaches another stream, but whoever comes late has not seen the last revision.
        key = status.endpoint_id
        row = self.endpoint_statuses.rows.get(key)
        revision = await self._statuses.put(
            key, status.encode(), revision=row.revision if row else 0
        )
        self._expected_statuses[key] = _Expected(revision, self._clock.monotonic())

    async def _delete_status(self, endpoint_id: str) -> None:
        row = self.endpoint_statuses.rows.get(endpoint_id)
        if row is not None:
            await self._statuses.delete(endpoint_id, revision=row.revision)
            self._expected_statuses[endpoint_id] = _Expected(None, self._clock.monotonic())

    async def _write_history(self, history: ScaleHistory) -> None:
        key = history.endpoint_id
        row = self.histories.rows.get(key)
        revision = await self._histories.put(
            key, history.encode(), revision=row.revision if row else 0
        )
        self._expected_histories[key] = _Expected(revision, self._clock.monotonic())

    async def _delete_history(self, endpoint_id: str) -> None:
        row = self.histories.rows.get(endpoint_id)
        if row is not None:
            await self._histories.delete(endpoint_id, revision=row.revision)
            self._expected_histories[endpoint_id] = _Expected(None, self._clock.monotonic())

    # ---- what the tables say

    def _note_assignment(self, key: str, row: Row[WorkerAssignment | None] | None) -> None:
        if row is not None and row.value is None and key != subjects.SCHEDULER_LEASE_KEY:
            logger.error(
                "assignment cannot be read; its GPUs look free",
                extra={"action": "assignment_unreadable", "key": key},
            )
        self._on_change()

    def _note_heartbeat(self, presence: Presence, key: str, row: object) -> None:
        known = presence.knows(key)
        if row is not None:
            presence.note_heard(key, self._clock.monotonic())
        if row is None or not known:
            self._on_change()

    def _note_router(self, key: str, row: object) -> None:
        # A router that leaves in good order has nothing in flight any more, and its workers need
        # another driver at once. (A node's agent that leaves comes back and adopts its workers.)
        if row is None and self.routers.synced:
            self._routers_seen.note_removed(key, self._clock.monotonic())
        self._note_heartbeat(self._routers_seen, key, row)

    def _note_synced(self, presence: Presence) -> None:
        presence.note_synced(self._clock.monotonic())
        self._on_change()


def _decode_assignment(data: bytes) -> WorkerAssignment | None:
    """An assignment; None for what is none, like the lease that lies in the same bucket."""
    try:
        return WorkerAssignment.decode(data)
    except ValidationError:
        return None


def _values(rows: Mapping[str, Row[T]]) -> dict[str, T]:
    return {key: row.value for key, row in rows.items()}


def _shows(rows: Mapping[str, Row[T]], expected: dict[str, _Expected], now: float) -> bool:
    """Whether the rows show all that is expected; forgets what they show or never will."""
    for key, write in list(expected.items()):
        row = rows.get(key)
        if write.revision is None:
            shown = row is None
        else:
            shown = row is not None and row.revision >= write.revision
        if shown or now - write.since > _SHOWS_WITHIN_S:
            del expected[key]
    return not expected
