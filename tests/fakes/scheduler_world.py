"""A pure world for the scheduler's core: it carries plans out and runs workers in virtual time.

Node agents start workers after `start_s`, one router holds queues and slots and reports after
every step, and after every plan the safety rules are asserted: no GPU twice, never above `max`
(one more while workers are replaced), none placed on a node that takes none, no busy worker told to
stop.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from penstock_common.events.catalogue import D, EventType
from penstock_common.messages import (
    ApiKeyRecord,
    Canary,
    EndpointRecord,
    EndpointStatus,
    Gpu,
    NodeOrder,
    NodeRecord,
    QueueReport,
    ScaleHistory,
    UsageRecord,
    VolumeRecord,
    WorkerAssignment,
    WorkerLoad,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.specs import parse_endpoint
from penstock_common.states import (
    ENDED,
    DesiredState,
    EndpointState,
    GpuReason,
    NodeWish,
    Phase,
    WorkerReason,
    WorkerState,
    advance_endpoint,
)
from penstock_scheduler.decision.memory import Memory
from penstock_scheduler.decision.reconcile import reconcile
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.snapshot import HeardReport, Snapshot, Tables, build_snapshot
from penstock_scheduler.store.reports import ReportBook
from penstock_scheduler.store.view import LiveView

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def make_record(
    endpoint_id: str = "ep-1",
    *,
    revision: int = 1,
    paused: bool = False,
    deleted: bool = False,
    gpu: dict[str, object] | None = None,
    workers: dict[str, object] | None = None,
    scaling: dict[str, object] | None = None,
    image: dict[str, object] | None = None,
    placement: dict[str, object] | None = None,
    storage: dict[str, object] | None = None,
    owner: str | None = None,
) -> EndpointRecord:
    """An endpoint as the api would write it."""
    spec = parse_endpoint(
        {
            "name": endpoint_id,
            "app_name": endpoint_id,
            "image": image or {"image": "echo:1", "command": "serve"},
            "gpu": gpu or {},
            "workers": workers or {},
            "scaling": scaling or {},
            "placement": placement or {},
            "storage": storage or {},
        }
    )
    return EndpointRecord(
        endpoint_id=endpoint_id,
        owner=owner,
        spec=spec,
        revision=revision,
        created_at=EPOCH,
        updated_at=EPOCH,
        deleted_at=EPOCH if deleted else None,
        paused=paused,
    )


def make_node(
    node_id: str = "node-a",
    *,
    n_gpus: int = 2,
    product: str = "rtx-4090-24gb",
    runtime: str = "docker",
    cuda: str | None = "12.8",
    images: tuple[str, ...] = (),
    groups: tuple[int, ...] | None = None,
    faults: Mapping[int, GpuReason] | None = None,
) -> NodeRecord:
    """A node's heartbeat; `faults`: which of its GPUs went bad."""
    vram_gb = int(product.lower().rpartition("-")[2].removesuffix("gb"))
    gpus = tuple(
        Gpu(
            uuid=f"GPU-{node_id}-{i}",
            product=product,
            vram_bytes=vram_gb * 10**9,
            reason=(faults or {}).get(i),
            link_group=groups[i] if groups else 0,
        )
        for i in range(n_gpus)
    )
    return NodeRecord.model_validate(
        {
            "node_id": node_id,
            "hostname": node_id,
            "address": "127.0.0.1",
            "runtime": runtime,
            "gpus": gpus,
            "cuda_version": cuda,
            "cpu_count": 8,
            "memory_bytes": 64 * 10**9,
            "disk_free_bytes": 10**12,
            "images": images,
            "version": "0",
            "started_at": EPOCH,
            "beat": 1,
        }
    )


@dataclass
class Requests:
    """One endpoint's requests at the router."""

    waiting: list[float] = field(default_factory=list)  # when each came
    arrivals: int = 0
    completions: int = 0
    service_time_s: float | None = None
    waits: list[float] = field(default_factory=list)


@dataclass
class Slots:
    """One worker at its driver."""

    #: when each request in flight will be answered
    ends: list[float] = field(default_factory=list)
    idle_since: float | None = None


def show(
    view: LiveView,
    tables: Tables,
    reports: dict[tuple[str, str], HeardReport],
    concerned: set[str] | None = None,
) -> dict[str, dict[str, HeardReport]]:
    """Tell a view of what is another than it shows; gives the reports by endpoint.

    `concerned` gets the endpoints that the changes name, as the store pokes them.
    """
    shown, named = view.tables, set[str]() if concerned is None else concerned
    named |= _see(view.see_assignment, shown.assignments, tables.assignments)
    named |= _see(view.see_worker_status, shown.worker_statuses, tables.worker_statuses)
    named |= _see(view.see_node, shown.nodes, tables.nodes)
    named |= _see(view.see_node_order, shown.node_orders, tables.node_orders)
    named |= _see(view.see_worker_order, shown.worker_orders, tables.worker_orders)
    for router_id in {*view.routers, *tables.routers}:
        view.see_router(router_id, lives=router_id in tables.routers)
    named |= {n for n, r in tables.endpoints.items() if view.endpoints.get(n) != r}
    named |= view.endpoints.keys() - tables.endpoints.keys()
    _show(view.endpoints, tables.endpoints)
    _show(view.endpoint_statuses, tables.endpoint_statuses)
    _show(view.histories, tables.histories)
    named |= _see(view.see_volume, shown.volumes, tables.volumes)
    named |= _see(view.see_api_key, shown.api_keys, tables.api_keys)
    by_endpoint: dict[str, dict[str, HeardReport]] = {}
    for (endpoint_id, router_id), heard in reports.items():
        by_endpoint.setdefault(endpoint_id, {})[router_id] = heard
    return by_endpoint


def _see(
    see: "Callable[[str, T | None], set[str]]", shown: Mapping[str, T], rows: Mapping[str, T]
) -> set[str]:
    named: set[str] = set()
    for key in {*shown, *rows}:
        if rows.get(key) != shown.get(key):
            named |= see(key, rows.get(key))
    return named


def _joined(plans: list[Plan]) -> Plan:
    steps: dict[str, Any] = {}
    for part in fields(Plan):
        of_each = [getattr(plan, part.name) for plan in plans]
        if isinstance(of_each[0], Mapping):
            steps[part.name] = {key: value for each in of_each for key, value in each.items()}
        else:
            steps[part.name] = tuple(step for each in of_each for step in each)
    return Plan(**steps)


def _show(table: dict[str, T], rows: Mapping[str, T]) -> None:
    table.clear()
    table.update(rows)


class World:
    """Everything round the scheduler's core."""

    #: true = a tick is a pass endpoint by endpoint over a kept view, false = one plan over everything
    by_parts = False

    def __init__(self, *, start_s: float = 5.0, service_s: float = 1.0) -> None:
        self.now = 0.0
        self.start_s = start_s
        self.service_s = service_s
        self.endpoints: dict[str, EndpointRecord] = {}
        self.statuses: dict[str, EndpointStatus] = {}
        self.histories: dict[str, ScaleHistory] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.orders: dict[str, NodeOrder] = {}
        #: by the keys of their workers
        self.stops: dict[str, WorkerOrder] = {}
        self.lost_nodes: frozenset[str] = frozenset()
        self.lost_routers: frozenset[str] = frozenset()
        self.routers: frozenset[str] = frozenset({"rt-1"})
        self.assignments: dict[str, tuple[WorkerAssignment, int]] = {}
        self.worker_statuses: dict[str, WorkerStatus] = {}
        self.keys: dict[str, ApiKeyRecord] = {}
        self.volumes: dict[str, VolumeRecord] = {}
        #: worker → its record, as the first writer had it
        self.usages: dict[str, UsageRecord] = {}
        self.requests: dict[str, Requests] = {}
        self.slots: dict[str, Slots] = {}
        #: true = requests go round all workers, as at a router; false = to the first free one
        self.spread = False
        self.settled = True
        self.reporting = True
        self.memory = Memory()
        self.view = LiveView()
        self.book = ReportBook()
        #: endpoints that changes have named since the last time that they were followed
        self.concerned: set[str] = set()
        self.token = 1
        #: worker → how it fails instead of becoming healthy; None = it does not
        self.fails: Callable[[WorkerAssignment], str | None] = lambda _: None
        #: assignment → digest that the image's tag has when its node looks; None = it has none
        self.tag: Callable[[WorkerAssignment], str | None] = lambda _: None
        #: the reason that such a worker gives
        self.failure_reason = WorkerReason.EXITED
        self.plans: list[Plan] = []
        self.starts: list[tuple[float, str]] = []
        self._revisions = itertools.count(1)
        self._ids = itertools.count(1)

    # ---- what tests do to it

    def put(self, record: EndpointRecord) -> None:
        self.endpoints[record.endpoint_id] = record
        self.requests.setdefault(record.endpoint_id, Requests())

    def join(self, *nodes: NodeRecord) -> None:
        self.nodes |= {node.node_id: node for node in nodes}

    def arrive(self, n: int = 1, endpoint_id: str = "ep-1") -> None:
        requests = self.requests[endpoint_id]
        requests.waiting += [self.now] * n
        requests.arrivals += n
        self._dispatch()

    def leave(self, n: int, endpoint_id: str = "ep-1") -> None:
        """Clients that wait give up, those that came first."""
        del self.requests[endpoint_id].waiting[:n]

    def run(self, seconds: float, dt: float = 0.5, rate: float = 0.0) -> None:
        """Let time pass in steps of `dt`, with `rate` arrivals a second at `ep-1`."""
        due = 0.0
        for _ in range(round(seconds / dt)):
            self.step(dt)
            due += rate * dt
            if due >= 1:
                self.arrive(int(due))
                due -= int(due)
            self.tick()

    def step(self, dt: float) -> None:
        """Time passes; agents and the router do their part."""
        self.now += dt
        self._run_agents()
        self._run_router()

    def have_routers(self, living: set[str], lost: set[str]) -> None:
        """These live, those are lost; with the last one all requests are cut."""
        self.routers, self.lost_routers = frozenset(living), frozenset(lost)
        if not living:
            for slots in self.slots.values():
                slots.ends.clear()

    def change(self, endpoint_id: str = "ep-1", **update: object) -> None:
        """The endpoint's record with other fields."""
        record = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = record.model_copy(update=update)

    def begin_canary(self, endpoint_id: str = "ep-1", percent: int = 20) -> None:
        """The endpoint's next revision shares the traffic with the present one."""
        record = self.endpoints[endpoint_id]
        stable = Canary(
            percent=percent, stable=record.revision, same_as=record.same_as, spec=record.spec
        )
        self.change(endpoint_id, revision=record.revision + 1, same_as=(), canary=stable)

    def abort_canary(self, endpoint_id: str = "ep-1") -> None:
        """The next revision runs what the canary's stable one does."""
        record = self.endpoints[endpoint_id]
        assert record.canary is not None
        same_as = (record.canary.stable, *record.canary.same_as)
        self.change(endpoint_id, revision=record.revision + 1, same_as=same_as, canary=None)

    def sides(
        self, endpoint_id: str = "ep-1"
    ) -> tuple[list[WorkerAssignment], list[WorkerAssignment]]:
        """The workers that are to run: the stable revision's, and the canary's."""
        record, wanted = self.endpoints[endpoint_id], self.wanted(endpoint_id)
        canary = [a for a in wanted if record.runs(a.revision)]
        return [a for a in wanted if a not in canary], canary

    def order(
        self, node_id: str, wish: NodeWish | None, *, deadline_s: float | None = None
    ) -> None:
        """An operator's order about a node; None takes it back."""
        self.orders.pop(node_id, None)
        if wish is not None:
            deadline = None if deadline_s is None else self.utc + timedelta(seconds=deadline_s)
            self.orders[node_id] = NodeOrder(
                node_id=node_id, wish=wish, at=self.utc, deadline_at=deadline
            )

    def stop(self, worker_id: str, *, deadline_s: float | None = None) -> None:
        """Somebody orders a worker to stop."""
        key, assignment = next(
            (k, a) for k, (a, _) in self.assignments.items() if a.worker_id == worker_id
        )
        self.stops[key] = WorkerOrder(
            worker_id=worker_id,
            node_id=assignment.node_id,
            endpoint_id=assignment.endpoint_id,
            at=self.utc,
            deadline_at=None if deadline_s is None else self.utc + timedelta(seconds=deadline_s),
        )

    def replace_leader(self) -> None:
        """A new leader, which remembers nothing, takes over."""
        self.memory = Memory()
        self.token += 1

    # ---- what tests ask

    @property
    def utc(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    def of(self, endpoint_id: str = "ep-1") -> list[WorkerAssignment]:
        return [a for a, _ in self.assignments.values() if a.endpoint_id == endpoint_id]

    def wanted(self, endpoint_id: str = "ep-1") -> list[WorkerAssignment]:
        return [a for a in self.of(endpoint_id) if a.desired is DesiredState.RUNNING]

    def on(self, node_id: str) -> list[WorkerAssignment]:
        return [a for a, _ in self.assignments.values() if a.node_id == node_id]

    def told(self, event_type: str) -> list[str]:
        """What the events of this type were about."""
        events = (event for plan in self.plans for event in plan.events)
        return [event.about for event in events if event.type.name == event_type]

    def data_of(self, wanted: EventType[D]) -> list[D]:
        """The data of all events of this type."""
        happened = (e for plan in self.plans for e in plan.events if e.type is wanted)
        return [e.data for e in happened if isinstance(e.data, wanted.data)]

    def state(self, endpoint_id: str = "ep-1") -> EndpointState:
        return self.statuses[endpoint_id].state

    def running(self, endpoint_id: str = "ep-1") -> int:
        return sum(
            status.state is WorkerState.RUNNING
            for status in self.worker_statuses.values()
            if status.endpoint_id == endpoint_id
        )

    def in_flight(self, worker_id: str) -> int:
        return len(self.slots[worker_id].ends) if worker_id in self.slots else 0

    def tables(self) -> Tables:
        return Tables(
            endpoints=dict(self.endpoints),
            endpoint_statuses=dict(self.statuses),
            histories=dict(self.histories),
            nodes={k: v for k, v in self.nodes.items() if k not in self.lost_nodes},
            node_orders=dict(self.orders),
            worker_orders=dict(self.stops),
            routers=self.routers,
            assignments=dict(self.assignments),
            worker_statuses=dict(self.worker_statuses),
            volumes=dict(self.volumes),
            api_keys=dict(self.keys),
        )

    def reports(self) -> dict[tuple[str, str], HeardReport]:
        if not self.reporting:
            return {}
        return {
            (endpoint_id, router): HeardReport(self._report(endpoint_id, router), self.now)
            for endpoint_id in self.requests
            for router in self.routers
        }

    def snapshot(self) -> Snapshot:
        return build_snapshot(
            self.tables(),
            self.reports(),
            now=self.now,
            utc=self.utc,
            lost_nodes=self.lost_nodes,
            lost_routers=self.lost_routers,
            settled=self.settled,
        )

    # ---- the scheduler

    def tick(self) -> Plan:
        """Decide once on everything, carry it out, and check the safety rules."""
        self._run_agents()
        if self.by_parts:
            return self._pass()
        plan, self.memory = reconcile(
            self.snapshot(), self.memory, new_id=self._new_id, token=self.token
        )
        self.plans.append(plan)
        self.apply(plan)
        self.check()
        return plan

    def poke(self, *endpoint_ids: str, fleet_wide: bool = False) -> Plan:
        """Decide on these endpoints alone, as the loop does."""
        self._run_agents()
        reports = show(self.view, self.tables(), self.reports(), self.concerned)
        freed, self.view.ledger.freed = self.view.ledger.freed, False
        owners, self.view.ledger.freed_owners = self.view.ledger.freed_owners, set()
        owned = {n for n in self.memory.over_quota if self.endpoints[n].owner in owners}
        snapshot = self.view.snapshot(
            {*endpoint_ids, *owned, *(self.memory.lacking if freed else ())},
            reports,
            now=self.now,
            utc=self.utc,
            lost_nodes=lambda names: self.lost_nodes & frozenset(names),
            lost_routers=lambda names: self.lost_routers & frozenset(names),
            settled=self.settled,
            fleet_wide=fleet_wide,
        )
        plan, self.memory = reconcile(
            snapshot,
            self.memory,
            new_id=self._new_id,
            token=self.token,
            ledger=self.view.ledger,
        )
        self.plans.append(plan)
        self.apply(plan)
        self.check(snapshot.only)
        return plan

    def follow_pokes(self, limit: int = 40) -> None:
        """Decide on what changes name and on nothing else, until they name nobody."""
        for _ in range(limit):
            self._run_agents()
            reports = self.reports()
            show(self.view, self.tables(), reports, self.concerned)
            self.concerned |= {
                name for (name, _), h in reports.items() if self.book.hear(h.report, self.now)
            }
            ledger = self.view.ledger
            if not (self.concerned or ledger.freed or ledger.freed_owners):
                return
            named = set(self.concerned)
            self.concerned.clear()
            self.poke(*named)
        raise AssertionError(f"no end of plans: {self.plans[-1]}")

    def resting(self) -> set[str]:
        """Endpoints at rest by what is known now."""
        reports = show(self.view, self.tables(), self.reports())
        self.view.ledger.freed = False
        return {n for n in self.view.known() if self.view.at_rest(n, self.memory, reports)}

    def _pass(self) -> Plan:
        reports = show(self.view, self.tables(), self.reports())
        order = self.view.in_order(self.view.known(), reports)
        concerned = self.view.concerned_fleet_wide(self.memory, reports)
        concerned |= {
            name for (name, _), h in self.reports().items() if self.book.hear(h.report, 0)
        }
        plans = [self.poke(*concerned, fleet_wide=True)]
        plans += [self.poke(endpoint_id) for endpoint_id in order]
        return _joined(plans)

    def settle(self, limit: int = 20) -> None:
        """Tick without letting time pass until a plan is empty."""
        for _ in range(limit):
            if not self.tick():
                return
        raise AssertionError(f"no end of plans: {self.plans[-1]}")

    def apply(self, plan: Plan) -> None:
        for assignment in (*plan.creates, *plan.changes):
            self._check_stop(assignment)
            self._check_gpus(assignment, created=assignment in plan.creates)
            key = f"{assignment.node_id}.{assignment.worker_id}"
            self.assignments[key] = (assignment, next(self._revisions))
        for created in plan.creates:
            assert created.node_id not in self.orders, f"placed against an order: {created}"
            assert not self.nodes[created.node_id].restarting, f"its agent is away: {created}"
            self.starts.append((self.now, created.worker_id))
        for key in plan.deletes:
            usage = plan.usages[key]
            self.usages.setdefault(usage.worker_id, usage)
            del self.assignments[key]
        for owner in {created.owner for created in plan.creates} & set(self.keys):
            self._check_quota(self.keys[owner or ""])
        for status in plan.statuses:
            before = self.statuses.get(status.endpoint_id)
            if before is not None and before.state is not EndpointState.DELETING:
                advance_endpoint(before.state, status.state)
            self.statuses[status.endpoint_id] = status
        for endpoint_id in plan.status_deletes:
            del self.statuses[endpoint_id]
        self.histories |= {history.endpoint_id: history for history in plan.histories}
        for endpoint_id in plan.history_deletes:
            del self.histories[endpoint_id]
        self._run_agents()
        self._dispatch()

    def check(self, only: frozenset[str] | None = None) -> None:
        """Assert the safety rules; the limits of those endpoints that the last plan was made for."""
        held: set[str] = set()
        for key, (assignment, _) in self.assignments.items():
            status = self.worker_statuses.get(key)
            if assignment.node_id in self.lost_nodes or (status and status.state in ENDED):
                continue
            assert not held & set(assignment.gpus), f"a GPU twice: {assignment}"
            held |= set(assignment.gpus)
        for record in self.endpoints.values():
            if only is not None and record.endpoint_id not in only:
                continue
            alive = {
                k: a
                for k, (a, _) in self.assignments.items()
                if a.endpoint_id == record.endpoint_id
                and a.desired is DesiredState.RUNNING
                and not (k in self.worker_statuses and self.worker_statuses[k].state in ENDED)
            }
            told = {s.image_digest for k, s in self.worker_statuses.items() if k in alive}
            surge = len(told - {None}) > 1  # one of them strays, and is replaced
            surge |= any(self._is_replaced(a, record) for a in alive.values())
            if record.canary is not None:
                drivers = {a.driver for a in alive.values() if a.node_id not in self.lost_nodes}
                assert len(drivers) <= 1, f"a canary driven by {drivers}"
                surge = True  # one of either side while one is wanted, and while one side grows
            assert len(alive) <= record.spec.workers.max + surge, f"{len(alive)} workers"

    def _check_quota(self, key: ApiKeyRecord) -> None:
        """After a start for this key: its workers that may still hold GPUs are no more than may."""
        held = [
            assignment
            for k, (assignment, _) in self.assignments.items()
            if assignment.owner == key.key_id
            and assignment.node_id not in self.lost_nodes
            and not (k in self.worker_statuses and self.worker_statuses[k].state in ENDED)
        ]
        if key.max_workers is not None:
            assert len(held) <= key.max_workers, f"{len(held)} workers of {key.key_id}"
        if key.max_gpus is not None:
            n_gpus = sum(len(assignment.gpus) for assignment in held)
            assert n_gpus <= key.max_gpus, f"{n_gpus} GPUs of {key.key_id}"

    def faults_of(self, assignment: WorkerAssignment) -> set[GpuReason]:
        """What speaks against the worker's GPUs."""
        node = self.nodes.get(assignment.node_id)
        return {
            gpu.reason
            for gpu in (node.gpus if node else ())
            if gpu.uuid in assignment.gpus and gpu.reason is not None
        }

    def _is_replaced(self, assignment: WorkerAssignment, record: EndpointRecord) -> bool:
        return (
            self._is_bad(assignment)
            or self.is_draining(assignment.node_id)
            or assignment.revision != record.revision
        )

    def is_draining(self, node_id: str) -> bool:
        return node_id in self.orders and self.orders[node_id].wish is NodeWish.DRAINING

    def _is_bad(self, assignment: WorkerAssignment) -> bool:
        return bool(self.faults_of(assignment) - {GpuReason.NOT_ANSWERING})

    def _check_gpus(self, assignment: WorkerAssignment, *, created: bool) -> None:
        """Nothing is placed on a bad GPU; none leaves a good one for being bad."""
        if created:
            assert not self.faults_of(assignment), f"placed on a bad GPU: {assignment}"
        before, _ = self.assignments.get(
            f"{assignment.node_id}.{assignment.worker_id}", (assignment, 0)
        )
        if assignment.desired is before.desired:
            return
        if assignment.desired is DesiredState.RUNNING:
            assert not self._is_bad(assignment), f"back on a bad GPU: {assignment}"
            ordered = f"{assignment.node_id}.{assignment.worker_id}" in self.stops
            assert not ordered, f"back against an order: {assignment}"
        if assignment.reason is WorkerReason.GPU_LOST:
            assert GpuReason.LOST in self.faults_of(assignment)
        if (
            assignment.reason is WorkerReason.GPU_UNHEALTHY
            and assignment.desired is DesiredState.DRAINING
        ):
            assert self._is_bad(assignment), f"drained from a good GPU: {assignment}"

    def _check_stop(self, assignment: WorkerAssignment) -> None:
        if assignment.reason is WorkerReason.GPU_LOST:
            return
        order = self.stops.get(f"{assignment.node_id}.{assignment.worker_id}")
        if order is not None and order.deadline_at is not None and order.deadline_at <= self.utc:
            return
        stopped = assignment.desired is DesiredState.STOPPED
        if stopped and self.routers and assignment.driver is not None:
            assert not self.in_flight(assignment.worker_id), f"stopped while busy: {assignment}"

    def _new_id(self) -> str:
        return f"wk-{next(self._ids):04}"

    # ---- the agents

    def _run_agents(self) -> None:
        for key, (assignment, _) in self.assignments.items():
            if assignment.node_id in self.lost_nodes or assignment.node_id not in self.nodes:
                continue
            status = self.worker_statuses.get(key) or self._received(assignment)
            self.worker_statuses[key] = self._advance(assignment, status)
        for key in [k for k in self.worker_statuses if k not in self.assignments]:
            if key.split(".")[0] not in self.lost_nodes:
                self.slots.pop(self.worker_statuses[key].worker_id, None)
                del self.worker_statuses[key]

    def _received(self, assignment: WorkerAssignment) -> WorkerStatus:
        return WorkerStatus(
            worker_id=assignment.worker_id,
            node_id=assignment.node_id,
            endpoint_id=assignment.endpoint_id,
            revision=assignment.revision,
            state=WorkerState.PENDING,
            phases={Phase.RECEIVED: self.utc},
            image_digest=assignment.image_digest or self.tag(assignment),
            updated_at=self.utc,
        )

    def _advance(self, assignment: WorkerAssignment, status: WorkerStatus) -> WorkerStatus:
        if status.state in ENDED:
            return status
        if assignment.desired is DesiredState.STOPPED:
            return self._changed(status, state=WorkerState.STOPPED)
        ready = Phase.HEALTHY in status.phases
        if not ready and self.now >= (
            self.start_s + (status.phases[Phase.RECEIVED] - EPOCH).total_seconds()
        ):
            message = self.fails(assignment)
            if message is not None:
                return self.failed(status, message)
            phases = {**status.phases, Phase.HEALTHY: self.utc}
            status = self._changed(status, phases=phases, host="127.0.0.1", port=1)
            ready = True
        if not ready:
            return self._changed(status, state=WorkerState.STARTING)
        draining = assignment.desired is DesiredState.DRAINING
        state = WorkerState.DRAINING if draining else WorkerState.RUNNING
        return self._changed(status, state=state)

    def failed(self, status: WorkerStatus, message: str) -> WorkerStatus:
        return self._changed(
            status,
            state=WorkerState.FAILED,
            reason=self.failure_reason,
            message=message,
            exit_code=1,
            log_tail=("boom",),
        )

    def kill(self, worker_id: str, message: str = "exited with exit code 1") -> None:
        """A worker dies by itself."""
        for key, status in self.worker_statuses.items():
            if status.worker_id == worker_id:
                self.worker_statuses[key] = self.failed(status, message)
                self.slots.pop(worker_id, None)

    def _changed(self, status: WorkerStatus, **update: object) -> WorkerStatus:
        return status.model_copy(update={**update, "updated_at": self.utc})

    # ---- the router

    def _takes_requests(self, key: str, assignment: WorkerAssignment) -> bool:
        status = self.worker_statuses.get(key)
        return (
            assignment.desired is DesiredState.RUNNING
            and assignment.driver in self.routers
            and status is not None
            and status.state is WorkerState.RUNNING
        )

    def _run_router(self) -> None:
        for assignment, _ in self.assignments.values():
            slots = self.slots.get(assignment.worker_id)
            if slots is None:
                continue
            requests = self.requests[assignment.endpoint_id]
            done = [end for end in slots.ends if end <= self.now]
            if done:
                slots.ends = [end for end in slots.ends if end > self.now]
                slots.idle_since = self.now
                requests.completions += len(done)
                requests.service_time_s = self.service_s
        self._dispatch()

    def _dispatch(self) -> None:
        in_order = list(self.assignments.items())
        if self.spread:
            in_order.sort(key=lambda item: self._last_used(item[1][0].worker_id))
        for key, (assignment, _) in in_order:
            if not self._takes_requests(key, assignment):
                continue
            slots = self.slots.setdefault(assignment.worker_id, Slots(idle_since=self.now))
            requests = self.requests[assignment.endpoint_id]
            record = self.endpoints.get(assignment.endpoint_id)
            n_slots = (record or assignment).spec.workers.max_concurrency
            while requests.waiting and len(slots.ends) < n_slots:
                requests.waits.append(self.now - requests.waiting.pop(0))
                slots.ends.append(self.now + self.service_s)

    def _last_used(self, worker_id: str) -> float:
        slots = self.slots.get(worker_id)
        return slots.idle_since or 0.0 if slots else 0.0

    def _report(self, endpoint_id: str, router: str) -> QueueReport:
        requests = self.requests[endpoint_id]
        mine = router == min(self.routers)  # all clients are at one router
        loads = []
        for key, (assignment, revision) in self.assignments.items():
            if assignment.endpoint_id != endpoint_id or assignment.driver != router:
                continue
            slots = self.slots.get(assignment.worker_id, Slots())
            idle_s = 0.0
            if not slots.ends and slots.idle_since is not None:
                idle_s = self.now - slots.idle_since
            loads.append(
                WorkerLoad(
                    worker_id=assignment.worker_id,
                    in_flight=len(slots.ends),
                    accepting=self._takes_requests(key, assignment),
                    idle_s=idle_s,
                    assignment_revision=revision,
                )
            )
        in_flight = sum(load.in_flight for load in loads)
        waiting = requests.waiting if mine else []
        return QueueReport(
            router_id=router,
            endpoint_id=endpoint_id,
            sent_at=self.utc,
            waiting=len(waiting),
            oldest_wait_s=self.now - waiting[0] if waiting else 0.0,
            in_flight=in_flight,
            arrivals_total=requests.arrivals if mine else 0,
            completions_total=requests.completions if mine else 0,
            service_time_s=requests.service_time_s if mine else None,
            workers=tuple(loads),
        )
