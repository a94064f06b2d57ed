"""What the scheduler reads from NATS KV and writes to it.

Reads come from watched tables, which lag behind writes by a moment. A decision made in that moment
would start a worker twice; so an endpoint is not decided on (`shows`) until the tables show
everything that this process has written of it, and its new workers hold their GPUs from before
their write on (`LiveView.expect`). Nothing is decided (`ready`) until the tables show

- everything earlier leaders have written: the lease lies in the same stream as the assignments, so
  a table that shows this term's lease shows all that was written before it,
- the end of a write that had no answer: it carried a fence, so it is done before the lease's next
  renewal or never.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import WrongRevisionError
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeOrder,
    NodeRecord,
    RouterRecord,
    ScaleHistory,
    VolumeRecord,
    WorkerAssignment,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Row, WatchedTable
from penstock_scheduler.leader import Leadership
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.snapshot import Snapshot
from penstock_scheduler.store.expected import ExpectedWrites
from penstock_scheduler.store.presence import Presence
from penstock_scheduler.store.view import LiveView, Reports, put_value
from penstock_scheduler.store.writes import PlanWriter

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Store:
    """The scheduler's tables, and its one way to write (`writes.py`)."""

    def __init__(
        self,
        bus: Bus,
        leadership: Leadership,
        clock: Clock,
        *,
        lost_after_s: float,
        settle_s: float,
        on_change: Callable[[str | None], None],
    ) -> None:
        """A store that is not started.

        Args:
            bus: the connection for everything but the lease.
            leadership: gives the fence of each write.
            clock: stamps heartbeats and writes.
            lost_after_s: silence after which a node or router is lost.
            settle_s: time after a (re)connect in which heartbeats may still be missing.
            on_change: called with the endpoint that a change concerns; None = it may concern all.
        """
        self._clock = clock
        self._settle_s = settle_s
        self._on_change = on_change
        self._nodes_seen = Presence(lost_after_s=lost_after_s)
        self._routers_seen = Presence(lost_after_s=lost_after_s)
        self.view = LiveView()
        self._expected = ExpectedWrites()
        self._lease_shown = 0

        def table(
            bucket: str,
            decode: Callable[[bytes], T],
            on_change: Callable[[str, Row[T] | None], None],
            on_synced: Callable[[], None] = self._note_all,
        ) -> WatchedTable[T]:
            return WatchedTable(bus, bucket, decode, on_change=on_change, on_synced=on_synced)

        self.endpoints = table(subjects.ENDPOINTS, EndpointRecord.decode, self._note_endpoint)
        self.endpoint_statuses = table(
            subjects.ENDPOINT_STATUS, EndpointStatus.decode, self._note_endpoint_status
        )
        self.histories = table(subjects.SCALE_HISTORY, ScaleHistory.decode, self._note_history)
        self.assignments = table(subjects.WORKERS, _decode_assignment, self._note_assignment)
        self.worker_statuses = table(
            subjects.WORKER_STATUS, WorkerStatus.decode, self._note_worker_status
        )
        self.nodes = table(
            subjects.NODES,
            NodeRecord.decode,
            self._note_node,
            partial(self._note_synced, self._nodes_seen),
        )
        self.volumes = table(subjects.VOLUMES, VolumeRecord.decode, self._note_volume)
        self.node_orders = table(subjects.NODE_ORDERS, NodeOrder.decode, self._note_node_order)
        self.worker_orders = table(
            subjects.WORKER_ORDERS, WorkerOrder.decode, self._note_worker_order
        )
        self.api_keys = table(subjects.API_KEYS, ApiKeyRecord.decode, self._note_api_key)
        self.routers = table(
            subjects.ROUTERS,
            RouterRecord.decode,
            self._note_router,
            partial(self._note_synced, self._routers_seen),
        )
        self._written: dict[str, WatchedTable[Any]] = {
            subjects.ENDPOINT_STATUS: self.endpoint_statuses,
            subjects.SCALE_HISTORY: self.histories,
            subjects.WORKERS: self.assignments,
        }
        self._writer = PlanWriter(
            bus,
            leadership,
            clock,
            tables=self._written,
            on_written=self._expect,
            on_refused=self.view.give_up,
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
            self.worker_orders,
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
        self._writer.begin_term(token)
        self._expected.clear()
        for key in self.view.expected():
            self.view.give_up(key)

    def ready(self, now: float) -> bool:
        """Whether the tables are whole and show what a decision on anything must know of."""
        lease = self.assignments.rows.get(subjects.SCHEDULER_LEASE_KEY)
        ready = (
            all(table.synced for table in self._tables)
            and lease is not None
            and lease.revision >= self._writer.lease_needed
        )
        if ready:
            for key in self._writer.unanswered:
                self.view.give_up(key)  # the table would show it by now
            self._writer.unanswered.clear()
        return ready

    def shows(self, endpoint_id: str, now: float) -> bool:
        """Whether the tables show all writes of this endpoint; if not, it is poked once they do."""
        for bucket, key in self._expected.forget_old(endpoint_id, now):
            if bucket == subjects.WORKERS:
                self.view.give_up(key)
        return not self._expected.withhold(endpoint_id)

    def take_freed(self) -> bool:
        """Whether GPUs became free since the last call."""
        freed, self.view.ledger.freed = self.view.ledger.freed, False
        return freed

    def take_owned(self, endpoint_ids: Iterable[str]) -> set[str]:
        """Those of these endpoints of whose owner a worker came to an end since the last call."""
        owners = self.view.ledger.freed_owners
        if not owners:
            return set()
        self.view.ledger.freed_owners = set()
        endpoints = self.view.endpoints
        return {n for n in endpoint_ids if n in endpoints and endpoints[n].owner in owners}

    def forget_old(self, now: float) -> None:
        """Drop what matters no longer; once a pass."""
        self._nodes_seen.forget_old(present=self.view.nodes, now=now)
        self._routers_seen.forget_old(present=self.view.routers, now=now)
        self.view.ledger.renew()

    def snapshot(
        self, endpoint_ids: Iterable[str], reports: Reports, now: float, *, fleet_wide: bool = False
    ) -> Snapshot:
        """The view of these endpoints at `now`; only while `ready`, and of those that it `shows`."""
        view = self.view
        settling_since = max(self._nodes_seen.settling_since, self._routers_seen.settling_since)
        return view.snapshot(
            endpoint_ids,
            reports,
            now=now,
            utc=self._clock.utc(),
            lost_nodes=partial(self._nodes_seen.lost, present=view.nodes, now=now),
            lost_routers=partial(self._routers_seen.lost, present=view.routers, now=now),
            settled=now - settling_since >= self._settle_s,
            fleet_wide=fleet_wide,
        )

    # ---- writes

    async def apply(self, plan: Plan, *, token: int) -> None:
        """Write what the plan says; all of it is tried even if some fails.

        Several plans may be written at once, as long as they concern different endpoints.

        Args:
            plan: what to write.
            token: of the term in which it was made; in another none of its assignments is written.

        Raises:
            WrongRevisionError: this process leads no longer, or somebody else wrote a status.
            BusDisconnectedError, BusTimeoutError, NoRespondersError, BusRefusedError: as for
                `Bucket.put`; what was not written is planned again.
        """
        for assignment in plan.creates:
            self.view.expect(assignment)
        failures = await self._writer.write(plan, token=token)
        if failures:
            self.view.undo(plan)
            # The one that says most: a lost lease, else whatever came first.
            raise next((f for f in failures if isinstance(f, WrongRevisionError)), failures[0])

    def endpoints_of(self, plan: Plan) -> set[str]:
        """The endpoints whose rows this plan writes."""
        assignments = self.view.tables.assignments
        return {
            *(a.endpoint_id for a in (*plan.creates, *plan.changes)),
            *(assignments[key][0].endpoint_id for key in plan.deletes if key in assignments),
            *(status.endpoint_id for status in plan.statuses),
            *(history.endpoint_id for history in plan.histories),
            *plan.status_deletes,
            *plan.history_deletes,
        }

    def _expect(self, endpoint_id: str, bucket: str, key: str, revision: int | None) -> None:
        """The table of this bucket is to show a write; it may have done so already."""
        self._expected.expect(endpoint_id, (bucket, key), revision, self._clock.monotonic())
        row = self._written[bucket].rows.get(key)
        self._note_row(endpoint_id, bucket, key, row)

    def _note_row(self, endpoint_id: str, bucket: str, key: str, row: Row[T] | None) -> bool:
        """A row of this endpoint is this now; gives whether that is what was written here."""
        expected = self._expected.note_row(
            endpoint_id, (bucket, key), row.revision if row else None
        )
        if self._expected.release(endpoint_id):
            self._on_change(endpoint_id)
        return expected

    # ---- what the tables say

    def _note_endpoint(self, key: str, row: Row[EndpointRecord] | None) -> None:
        put_value(self.view.endpoints, key, row.value if row else None)
        self._on_change(key)

    def _note_endpoint_status(self, key: str, row: Row[EndpointStatus] | None) -> None:
        put_value(self.view.endpoint_statuses, key, row.value if row else None)
        if not self._note_row(key, subjects.ENDPOINT_STATUS, key, row):
            self._on_change(key)

    def _note_history(self, key: str, row: Row[ScaleHistory] | None) -> None:
        put_value(self.view.histories, key, row.value if row else None)
        if not self._note_row(key, subjects.SCALE_HISTORY, key, row):
            self._on_change(key)

    def _note_assignment(self, key: str, row: Row[WorkerAssignment | None] | None) -> None:
        if key == subjects.SCHEDULER_LEASE_KEY:
            shown_before, self._lease_shown = self._lease_shown, row.revision if row else 0
            if shown_before < self._writer.lease_needed <= self._lease_shown:
                self._on_change(None)
            return
        if row is not None and row.value is None:
            logger.error(
                "assignment cannot be read; its GPUs look free",
                extra={"action": "assignment_unreadable", "key": key},
            )
        readable = (row.value, row.revision) if row and row.value is not None else None
        for endpoint_id in self.view.see_assignment(key, readable):
            self._note_row(endpoint_id, subjects.WORKERS, key, row)
            self._on_change(endpoint_id)

    def _note_worker_status(self, key: str, row: Row[WorkerStatus] | None) -> None:
        for endpoint_id in self.view.see_worker_status(key, row.value if row else None):
            self._on_change(endpoint_id)

    def _note_node(self, key: str, row: Row[NodeRecord] | None) -> None:
        for endpoint_id in self.view.see_node(key, row.value if row else None):
            self._on_change(endpoint_id)
        self._note_heartbeat(self._nodes_seen, key, row)

    def _note_node_order(self, key: str, row: Row[NodeOrder] | None) -> None:
        for endpoint_id in self.view.see_node_order(key, row.value if row else None):
            self._on_change(endpoint_id)
        # Others may find a place there, or none any more; and an empty node is to be told of.
        self._on_change(None)

    def _note_worker_order(self, key: str, row: Row[WorkerOrder] | None) -> None:
        for endpoint_id in self.view.see_worker_order(key, row.value if row else None):
            self._on_change(endpoint_id)

    def _note_volume(self, key: str, row: Row[VolumeRecord] | None) -> None:
        for endpoint_id in self.view.see_volume(key, row.value if row else None):
            self._on_change(endpoint_id)

    def _note_api_key(self, key: str, row: Row[ApiKeyRecord] | None) -> None:
        for endpoint_id in self.view.see_api_key(key, row.value if row else None):
            self._on_change(endpoint_id)

    def _note_heartbeat(self, presence: Presence, key: str, row: object) -> None:
        known, now = presence.knows(key), self._clock.monotonic()
        presence.note_told(now)
        if row is not None:
            presence.note_heard(key, now)
        if row is None or not known:
            self._on_change(None)

    def _note_router(self, key: str, row: object) -> None:
        # A router that leaves in good order has nothing in flight any more, and its workers need
        # another driver at once. (A node's agent that leaves comes back and adopts its workers.)
        self.view.see_router(key, lives=row is not None)
        if row is None and self.routers.synced:
            self._routers_seen.note_removed(key, self._clock.monotonic())
        self._note_heartbeat(self._routers_seen, key, row)

    def _note_synced(self, presence: Presence) -> None:
        presence.note_synced(self._clock.monotonic())
        self._note_all()

    def _note_all(self) -> None:
        self._on_change(None)


def _decode_assignment(data: bytes) -> WorkerAssignment | None:
    """An assignment; None for what is none, like the lease that lies in the same bucket."""
    try:
        return WorkerAssignment.decode(data)
    except ValidationError:
        return None
