"""An immutable view of everything the scheduler decides on, at one instant.

`build_snapshot` joins the tables: each assignment with what its node says of it (status) and what
its driver says of it (load). Reports of routers are summed per endpoint; what they say of waiting
and idleness grows with the report's age, and the word of a lost router, or an old word, is dropped.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeOrder,
    NodeRecord,
    QueueReport,
    ScaleHistory,
    VolumeRecord,
    WorkerAssignment,
    WorkerLoad,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.sketch import merge, quantile, weight_of
from penstock_common.states import ENDED, DesiredState, Phase, WorkerState
from penstock_common.subjects import worker_key

#: A report older than this many seconds is no news. Routers repeat themselves every second.
REPORT_MAX_AGE_S: Final = 5.0
#: What the mean of a router weighs that served nothing lately.
_LONG_AGO: Final = 1e-6


class Stage(Enum):
    """What the scheduler counts a worker as: what is wanted of it, and how far it is."""

    STARTING = auto()  #: wanted, not yet healthy
    RUNNING = auto()  #: wanted and healthy
    DRAINING = auto()  #: told to take nothing new
    STOPPING = auto()  #: told to stop
    ENDED = auto()  #: its process is gone


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker: what is wanted of it, what its node says, what its driver says."""

    assignment: WorkerAssignment
    #: revision of the assignment in KV
    revision: int
    status: WorkerStatus | None = None
    #: fresh word of the worker's present driver; `idle_s` as of the snapshot
    load: WorkerLoad | None = None

    #: the worker's id, and its key in the buckets
    id: str = field(init=False)
    key: str = field(init=False)
    #: what it counts as
    stage: Stage = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what a decision asks many times."""
        assignment = self.assignment
        object.__setattr__(self, "id", assignment.worker_id)
        object.__setattr__(self, "key", worker_key(assignment.node_id, assignment.worker_id))
        object.__setattr__(self, "stage", _stage(assignment, self.status))

    @property
    def answers(self) -> bool:
        """Whether its node says that it takes requests, wanted or not."""
        return _answers(self.status)

    @property
    def active(self) -> bool:
        """Whether it counts against `workers.max`: neither leaving nor gone."""
        return self.stage in (Stage.STARTING, Stage.RUNNING)

    @property
    def idle_s(self) -> float | None:
        """Seconds for which its driver knows it to have had no request; None = busy or unknown."""
        load = self.load
        if self.stage is not Stage.RUNNING or load is None or load.in_flight or not load.accepting:
            return None
        return load.idle_s

    @property
    def ready_at(self) -> datetime | None:
        """When it was ready first (its node's clock); None = never."""
        if self.status is None:
            return None
        phases = self.status.phases
        if self.assignment.spec.health.path is None:
            return phases.get(Phase.HEALTHY, phases.get(Phase.LISTENING))
        return phases.get(Phase.HEALTHY)


def _stage(assignment: WorkerAssignment, status: WorkerStatus | None) -> Stage:
    if status is not None and status.state in ENDED:
        return Stage.ENDED
    match assignment.desired:
        case DesiredState.STOPPED:
            return Stage.STOPPING
        case DesiredState.DRAINING:
            return Stage.DRAINING
        case DesiredState.RUNNING:
            return Stage.RUNNING if _answers(status) else Stage.STARTING


def _answers(status: WorkerStatus | None) -> bool:
    # One that its node drains although it is wanted either comes back from a drain or is dying.
    return status is not None and status.state is WorkerState.RUNNING


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The queue of one endpoint over all routers."""

    waiting: int = 0
    #: seconds that the oldest waiting request has waited by now
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    #: router → its counter of arrivals
    arrivals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: mean over the routers, weighted by what each has served; None = nobody measured one
    service_time_s: float | None = None
    #: so long served 95 of 100 requests at most; None = nothing was served lately
    service_p95_s: float | None = None


@dataclass(frozen=True, slots=True)
class HeardReport:
    """A router's report and when it came (monotonic seconds of this process)."""

    report: QueueReport
    heard_at: float


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables as they are, decoded; keys as in KV. Live or a copy, they do not change meanwhile."""

    endpoints: Mapping[str, EndpointRecord] = field(default_factory=dict)
    endpoint_statuses: Mapping[str, EndpointStatus] = field(default_factory=dict)
    #: endpoint → its last decisions
    histories: Mapping[str, ScaleHistory] = field(default_factory=dict)
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict)
    node_orders: Mapping[str, NodeOrder] = field(default_factory=dict)
    #: by the keys of their workers
    worker_orders: Mapping[str, WorkerOrder] = field(default_factory=dict)
    routers: Set[str] = frozenset()
    #: with the revision in KV
    assignments: Mapping[str, tuple[WorkerAssignment, int]] = field(default_factory=dict)
    worker_statuses: Mapping[str, WorkerStatus] = field(default_factory=dict)
    #: network volumes
    volumes: Mapping[str, VolumeRecord] = field(default_factory=dict)
    api_keys: Mapping[str, ApiKeyRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one decision sees: everything, or everything about some endpoints."""

    #: monotonic seconds: for durations
    now: float
    #: the same instant in UTC: for what is stored
    utc: datetime
    tables: Tables
    #: key → worker, for every assignment of the endpoints shown
    workers: Mapping[str, Worker]
    #: endpoint → its queue; absent = no router has said anything lately
    loads: Mapping[str, QueueLoad]
    #: nodes and routers that are gone for good (`presence.py`), of those that matter here
    lost_nodes: frozenset[str] = frozenset()
    lost_routers: frozenset[str] = frozenset()
    #: whether every node and router had time for a heartbeat since the tables were listed: only
    #: then does the absence of capacity prove anything
    settled: bool = True
    #: the endpoints shown, if not all; `tables` show all
    only: frozenset[str] | None = None
    #: whether steps that concern several endpoints at once are due
    fleet_wide: bool = True


def build_snapshot(
    tables: Tables,
    reports: Mapping[tuple[str, str], HeardReport],
    *,
    now: float,
    utc: datetime,
    lost_nodes: frozenset[str] = frozenset(),
    lost_routers: frozenset[str] = frozenset(),
    settled: bool = True,
) -> Snapshot:
    """Join the tables and the routers' reports into one view.

    Args:
        tables: the tables, whole and current.
        reports: (endpoint id, router id) → the last report heard.
        now: monotonic seconds, of the clock that stamped the reports.
        utc: the same instant, aware UTC.
        lost_nodes: nodes gone for good.
        lost_routers: routers gone for good.
        settled: see `Snapshot.settled`.
    """
    heard: dict[str, list[HeardReport]] = {}
    for (endpoint_id, _), report in reports.items():
        heard.setdefault(endpoint_id, []).append(report)
    keys: dict[str, list[str]] = {}
    for key, (assignment, _) in tables.assignments.items():
        keys.setdefault(assignment.endpoint_id, []).append(key)
    workers: dict[str, Worker] = {}
    loads: dict[str, QueueLoad] = {}
    for endpoint_id in {*heard, *keys}:
        fresh = still_news(heard.get(endpoint_id, ()), lost_routers, now)
        if fresh:
            loads[endpoint_id] = sum_reports(fresh, now)
        if endpoint_id in keys:
            workers |= join_workers(tables, keys[endpoint_id], fresh, now)
    return Snapshot(
        now=now,
        utc=utc,
        tables=tables,
        workers=workers,
        loads=loads,
        lost_nodes=lost_nodes,
        lost_routers=lost_routers,
        settled=settled,
    )


def still_news(
    heard: Iterable[HeardReport], lost_routers: Set[str], now: float
) -> list[HeardReport]:
    """Reports of living routers that are not too old."""
    return [
        h
        for h in heard
        if now - h.heard_at <= REPORT_MAX_AGE_S and h.report.router_id not in lost_routers
    ]


def join_workers(
    tables: Tables, keys: Iterable[str], fresh: Iterable[HeardReport], now: float
) -> dict[str, Worker]:
    """Workers of one endpoint by key: assignment, status, and the word of the driver.

    Args:
        tables: the tables.
        keys: of the endpoint's assignments.
        fresh: reports on the endpoint that are news.
        now: monotonic seconds.
    """
    driven = {
        (h.report.router_id, load.worker_id): _aged(load, now - h.heard_at)
        for h in fresh
        for load in h.report.workers
    }
    workers: dict[str, Worker] = {}
    for key in keys:
        assignment, revision = tables.assignments[key]
        driver = assignment.driver
        load = driven.get((driver, assignment.worker_id)) if driver else None
        workers[key] = Worker(assignment, revision, tables.worker_statuses.get(key), load)
    return workers


def _aged(load: WorkerLoad, age_s: float) -> WorkerLoad:
    """The load as of now: an idle worker has been idle since the report as well.

    A worker that never accepted a request says 0 and stays at 0: it has not begun to be idle.
    """
    if load.in_flight > 0 or not load.accepting:
        return load
    return load.model_copy(update={"idle_s": load.idle_s + age_s})


def sum_reports(heard: list[HeardReport], now: float) -> QueueLoad:
    """The queue of one endpoint over all routers, as of now."""
    reports = [h.report for h in heard]
    weights = [
        (weight_of(r.service_times) or _LONG_AGO, r.service_time_s)
        for r in reports
        if r.service_time_s is not None
    ]
    return QueueLoad(
        waiting=sum(r.waiting for r in reports),
        oldest_wait_s=max(
            (h.report.oldest_wait_s + now - h.heard_at for h in heard if h.report.waiting),
            default=0.0,
        ),
        in_flight=sum(r.in_flight for r in reports),
        arrivals={r.router_id: r.arrivals_total for r in reports},
        service_time_s=(
            sum(weight * time_s for weight, time_s in weights) / sum(w for w, _ in weights)
            if weights
            else None
        ),
        service_p95_s=quantile(merge(r.service_times for r in reports), 0.95),
    )
