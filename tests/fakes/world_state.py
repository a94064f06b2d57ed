"""What lies round the scheduler's core: what was written and wished, who lives, who asks."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from penstock_common.events.catalogue import D, EventType
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeOrder,
    NodeRecord,
    ScaleHistory,
    UsageRecord,
    VolumeRecord,
    WorkerAssignment,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.states import (
    DesiredState,
    EndpointState,
    GpuReason,
    NodeWish,
    WorkerReason,
    WorkerState,
)
from penstock_scheduler.snapshot import Tables
from tests.fakes.clock import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_scheduler.planning.plan import Plan


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


class WorldState:
    """Plain data, and what tests ask of it."""

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
        #: true = node agents do nothing and say nothing
        self.silent_agents = False
        self.settled = True
        self.reporting = True
        #: worker → how it fails instead of becoming healthy; None = it does not
        self.fails: Callable[[WorkerAssignment], str | None] = lambda _: None
        #: assignment → digest that the image's tag has when its node looks; None = it has none
        self.tag: Callable[[WorkerAssignment], str | None] = lambda _: None
        #: the reason that such a worker gives
        self.failure_reason = WorkerReason.EXITED
        self.plans: list[Plan] = []
        self.starts: list[tuple[float, str]] = []

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

    def faults_of(self, assignment: WorkerAssignment) -> set[GpuReason]:
        """What speaks against the worker's GPUs."""
        node = self.nodes.get(assignment.node_id)
        return {
            gpu.reason
            for gpu in (node.gpus if node else ())
            if gpu.uuid in assignment.gpus and gpu.reason is not None
        }

    def is_draining(self, node_id: str) -> bool:
        return node_id in self.orders and self.orders[node_id].wish is NodeWish.DRAINING

    def is_bad(self, assignment: WorkerAssignment) -> bool:
        """Whether something speaks against its GPUs that lasts."""
        return bool(self.faults_of(assignment) - {GpuReason.NOT_ANSWERING})
