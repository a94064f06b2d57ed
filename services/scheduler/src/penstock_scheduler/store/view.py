"""A live view of the tables, joined by endpoint, from which snapshots of some endpoints are taken.

Each change costs the same however large the fleet is, and so does a snapshot of one endpoint. What
was written and is not shown yet (`expect`) holds its GPUs all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeOrder,
    NodeRecord,
    ScaleHistory,
    VolumeRecord,
    WorkerAssignment,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.subjects import worker_key
from penstock_scheduler.decision.memory import Memory
from penstock_scheduler.holdings.ledger import Ledger, holding_of
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.rollout.room import MAX_VICTIMS
from penstock_scheduler.snapshot import (
    HeardReport,
    QueueLoad,
    Snapshot,
    Tables,
    Worker,
    join_workers,
    still_news,
    sum_reports,
)

T = TypeVar("T")

#: Endpoint → router → its last report.
Reports = Mapping[str, Mapping[str, HeardReport]]
#: Of these names, those that are gone for good.
WhoIsLost = Callable[[Iterable[str]], frozenset[str]]


class LiveView:
    """The tables, who holds what, and which workers are whose."""

    def __init__(self) -> None:
        """Nothing known yet."""
        self.endpoints: dict[str, EndpointRecord] = {}
        self.endpoint_statuses: dict[str, EndpointStatus] = {}
        self.histories: dict[str, ScaleHistory] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.node_orders: dict[str, NodeOrder] = {}
        self.worker_orders: dict[str, WorkerOrder] = {}
        self.volumes: dict[str, VolumeRecord] = {}
        self.api_keys: dict[str, ApiKeyRecord] = {}
        self.routers: set[str] = set()
        self._assignments: dict[str, tuple[WorkerAssignment, int]] = {}
        self._worker_statuses: dict[str, WorkerStatus] = {}
        self._keys: dict[str, dict[str, None]] = {}
        self._expected: dict[str, WorkerAssignment] = {}
        self.tables = Tables(
            endpoints=self.endpoints,
            endpoint_statuses=self.endpoint_statuses,
            histories=self.histories,
            nodes=self.nodes,
            node_orders=self.node_orders,
            worker_orders=self.worker_orders,
            volumes=self.volumes,
            api_keys=self.api_keys,
            routers=self.routers,
            assignments=self._assignments,
            worker_statuses=self._worker_statuses,
        )
        self.ledger = Ledger(self.nodes, self.node_orders, self.routers)

    # ---- changes

    def see_assignment(self, key: str, row: tuple[WorkerAssignment, int] | None) -> set[str]:
        """An assignment is this now, with its revision; gives the endpoints concerned."""
        before = self._assignments.get(key)
        concerned = {r[0].endpoint_id for r in (before, row) if r is not None}
        if before is not None:
            self._drop_key(before[0].endpoint_id, key)
        if row is None:
            self._assignments.pop(key, None)
        else:
            self._assignments[key] = row
            self._keys.setdefault(row[0].endpoint_id, {})[key] = None
            self._expected.pop(key, None)
        self._account(key)
        return concerned

    def see_worker_status(self, key: str, status: WorkerStatus | None) -> set[str]:
        """A node says this of a worker now; gives the endpoints concerned."""
        before = self._worker_statuses.get(key)
        put_value(self._worker_statuses, key, status)
        self._account(key)
        return {s.endpoint_id for s in (before, status) if s is not None}

    def see_node(self, node_id: str, record: NodeRecord | None) -> set[str]:
        """A node's heartbeat, or its end; gives the endpoints concerned.

        They are those with workers there, if it came or went or its GPUs are others than before.
        """
        before = self.nodes.get(node_id)
        put_value(self.nodes, node_id, record)
        self.ledger.see_node(node_id)
        if before is not None and record is not None and before.gpus == record.gpus:
            return set()
        return self.ledger.endpoints_on(node_id)

    def see_node_order(self, node_id: str, order: NodeOrder | None) -> set[str]:
        """An operator's order about a node, or its end; gives the endpoints with workers there."""
        put_value(self.node_orders, node_id, order)
        self.ledger.see_node(node_id)
        return self.ledger.endpoints_on(node_id)

    def see_worker_order(self, key: str, order: WorkerOrder | None) -> set[str]:
        """An order about a worker, or its end; gives the endpoint of the worker, if it is one."""
        put_value(self.worker_orders, key, order)
        row = self._assignments.get(key)
        return {row[0].endpoint_id} if row is not None else set()

    def see_volume(self, volume_id: str, record: VolumeRecord | None) -> set[str]:
        """A network volume is this now; gives the endpoints that mount it."""
        put_value(self.volumes, volume_id, record)
        return {
            name
            for name, kept in self.endpoints.items()
            if any(volume.id == volume_id for volume in kept.spec.storage.network_volumes)
        }

    def see_api_key(self, key_id: str, record: ApiKeyRecord | None) -> set[str]:
        """An API key is this now; gives the endpoints that its quota concerns."""
        before = self.api_keys.get(key_id)
        put_value(self.api_keys, key_id, record)
        if before is not None and record is not None and _quota(before) == _quota(record):
            return set()
        return {name for name, kept in self.endpoints.items() if kept.owner == key_id}

    def see_router(self, router_id: str, *, lives: bool) -> None:
        """A router came or went."""
        if lives == (router_id in self.routers):
            return
        if lives:
            self.routers.add(router_id)
        else:
            self.routers.discard(router_id)
        self.ledger.drives.see_routers(self.routers)

    def expect(self, assignment: WorkerAssignment) -> None:
        """This new worker was written, or is being; it holds what it will until it is shown."""
        key = worker_key(assignment.node_id, assignment.worker_id)
        if key not in self._assignments:
            self._expected[key] = assignment
        self._account(key)

    def expected(self) -> list[str]:
        """Keys of new workers that are not shown yet."""
        return list(self._expected)

    def give_up(self, key: str) -> None:
        """A new worker is not expected any more: its write failed, or the table showed and lost it."""
        self._expected.pop(key, None)
        self._account(key)

    def undo(self, plan: Plan) -> None:
        """What this plan wanted holds no longer, but for what the tables show or is expected."""
        for assignment in (*plan.creates, *plan.changes):
            self._account(worker_key(assignment.node_id, assignment.worker_id))
        for key in plan.deletes:
            self._account(key)

    # ---- questions

    def known(self) -> set[str]:
        """Every endpoint that has a record, a worker, a status or a history."""
        return {*self.endpoints, *self._keys, *self.endpoint_statuses, *self.histories}

    def at_rest(self, endpoint_id: str, memory: Memory, reports: Reports) -> bool:
        """Whether time alone cannot make a plan for this endpoint: something has to happen first.

        Nobody waits, nothing runs, nothing is kept running, and no start has failed.
        """
        record, kept = self.endpoints.get(endpoint_id), memory.endpoints.get(endpoint_id)
        if record is None or kept is None or endpoint_id in self._keys:
            return False
        heard = reports.get(endpoint_id, {}).values()
        return (
            endpoint_id in self.endpoint_statuses
            and not (record.spec.workers.min or record.spec.scaling.schedule)
            and not (kept.desired or kept.backoff.failures or kept.stable_backoff.failures)
            and not any(h.report.waiting or h.report.in_flight for h in heard)
        )

    def in_order(self, endpoint_ids: Iterable[str], reports: Reports) -> list[str]:
        """Endpoints in the order in which a pass takes them: priority, then who waits longest."""

        def turn(endpoint_id: str) -> tuple[int, float, str]:
            record = self.endpoints.get(endpoint_id)
            priority = record.spec.placement.priority if record else 0
            waits = [
                h.heard_at - h.report.oldest_wait_s
                for h in reports.get(endpoint_id, {}).values()
                if h.report.waiting
            ]
            return -priority, min(waits, default=float("inf")), endpoint_id

        return sorted(endpoint_ids, key=turn)

    def concerned_fleet_wide(self, memory: Memory, reports: Reports) -> set[str]:
        """The endpoints that a fleet-wide decision has to look at; none = it may be left out.

        They are those that wait and found no place with those that could give way, and those of
        a router to be relieved.
        """
        concerned = self.ledger.drives.endpoints_to_relieve()
        waiting = {
            name
            for name in memory.lacking
            if any(h.report.waiting for h in reports.get(name, {}).values())
        }
        if waiting:
            spare = [
                (record.spec.placement.priority, kept.spare_since, name)
                for name, kept in memory.endpoints.items()
                if kept.spare_since is not None and (record := self.endpoints.get(name))
            ]
            concerned |= waiting
            concerned |= {name for *_, name in sorted(spare)[:MAX_VICTIMS]}
        return concerned

    def snapshot(
        self,
        endpoint_ids: Iterable[str],
        reports: Reports,
        *,
        now: float,
        utc: datetime,
        lost_nodes: WhoIsLost,
        lost_routers: WhoIsLost,
        settled: bool = True,
        fleet_wide: bool = False,
    ) -> Snapshot:
        """The view of some endpoints at `now`. It shows the live tables: use it at once.

        Args:
            endpoint_ids: the endpoints to show.
            reports: the routers' last words.
            now: monotonic seconds, of the clock that stamped the reports.
            utc: the same instant, aware UTC.
            lost_nodes: tells which nodes are gone for good.
            lost_routers: tells which routers are.
            settled: see `Snapshot`.
            fleet_wide: see `Snapshot`.
        """
        only = frozenset(endpoint_ids)
        keys = {name: self._keys.get(name, {}) for name in only}
        assignments = [self._assignments[key][0] for of in keys.values() for key in of]
        routers = {a.driver for a in assignments if a.driver}
        for name in only:
            routers.update(reports.get(name, ()))
        gone = lost_routers(routers)
        workers: dict[str, Worker] = {}
        loads: dict[str, QueueLoad] = {}
        for name in only:
            fresh = still_news(reports.get(name, {}).values(), gone, now)
            if fresh:
                loads[name] = sum_reports(fresh, now)
            if keys[name]:
                workers |= join_workers(self.tables, keys[name], fresh, now)
        return Snapshot(
            now=now,
            utc=utc,
            tables=self.tables,
            workers=workers,
            loads=loads,
            # What quotas count depends on the nodes of workers that are not shown as well.
            lost_nodes=lost_nodes({*(a.node_id for a in assignments), *self.ledger.away}),
            lost_routers=gone,
            settled=settled,
            only=only,
            fleet_wide=fleet_wide,
        )

    # ---- inner

    def _drop_key(self, endpoint_id: str, key: str) -> None:
        keys = self._keys[endpoint_id]
        del keys[key]
        if not keys:
            del self._keys[endpoint_id]

    def _account(self, key: str) -> None:
        """Write into the ledger what a worker holds by the tables, or by what is expected."""
        row = self._assignments.get(key)
        assignment = row[0] if row else self._expected.get(key)
        status = self._worker_statuses.get(key)
        self.ledger.put(key, holding_of(assignment, status) if assignment else None)


def _quota(record: ApiKeyRecord) -> tuple[int | None, int | None, str]:
    """What limits an owner's endpoints, and what they are told of it."""
    return record.max_workers, record.max_gpus, record.name


def put_value(table: dict[str, T], key: str, value: T | None) -> None:
    """Put a row into a table, or take it out."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
