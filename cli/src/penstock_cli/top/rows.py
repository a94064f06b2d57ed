"""A look at an installation as rows and sums [pure].

Theory of operation. A `Sample` is what two requests brought: every endpoint and every node. Rates
and quantiles are the api's, over its last seconds, so a single sample says all and a lost one
costs nothing. From the sample before only one thing is taken: which endpoints have changed their
state since, so that a person sees it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from penstock_cli.top.wishes import Order
from penstock_client.documents import EndpointDocument, GpuDocument, NodeDocument
from penstock_common.states import EndpointState

#: What needs a person comes first.
_STATES: Final = (
    EndpointState.FAILED,
    EndpointState.DEPLOYING,
    EndpointState.UPDATING,
    EndpointState.DELETING,
    EndpointState.SERVING,
    EndpointState.PAUSED,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The installation at one instant."""

    endpoints: tuple[EndpointDocument, ...]
    nodes: tuple[NodeDocument, ...]
    #: when it came, monotonic seconds
    at: float


@dataclass(frozen=True, slots=True)
class Sums:
    """The installation in figures."""

    nodes: int
    #: state → nodes that are not plainly ready
    nodes_by_state: tuple[tuple[str, int], ...]
    gpus: int
    gpus_held: int
    gpus_unhealthy: int
    workers_running: int
    workers_starting: int
    workers_draining: int
    in_flight: int
    waiting: int
    oldest_wait_s: float
    arrivals_per_s: float
    endpoints: int
    #: state → endpoints that do not plainly serve
    endpoints_by_state: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint."""

    app_name: str
    state: str
    reason: str | None
    message: str | None
    #: its state is another one than in the sample before
    changed: bool
    running: int
    desired: int
    most: int
    in_flight: int
    slots: int
    waiting: int
    #: seconds; None = nobody waits
    oldest_wait_s: float | None
    arrivals_per_s: float
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU, or what several are together; None = not measured."""

    utilization_ratio: float | None
    memory_used_bytes: int | None
    memory_bytes: int
    temperature_c: int | None
    power_w: float | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node, with its GPUs together and one by one."""

    node_id: str
    state: str
    #: why it is not plainly there: its order's reason, or what its engine lacks
    note: str | None
    gpus_held: int
    gpus: int
    together: GpuRow | None
    #: (what it is called, who holds it or why nobody may, its measures)
    each: tuple[tuple[str, str, GpuRow], ...]
    workers: int
    #: processes that want to run, per CPU; None = not known
    load_ratio: float | None
    memory_used_ratio: float | None


def sums(sample: Sample) -> Sums:
    """The figures of the header."""
    endpoints, nodes = sample.endpoints, sample.nodes
    gpus = [gpu for node in nodes for gpu in node.gpus]
    loads = [endpoint.load for endpoint in endpoints]
    return Sums(
        nodes=len(nodes),
        nodes_by_state=_counted((node.state for node in nodes), "ready"),
        gpus=len(gpus),
        gpus_held=sum(gpu.worker_id is not None for gpu in gpus),
        gpus_unhealthy=sum(not gpu.healthy for gpu in gpus),
        workers_running=sum(endpoint.workers_running for endpoint in endpoints),
        workers_starting=sum(endpoint.workers_starting for endpoint in endpoints),
        workers_draining=sum(endpoint.workers_draining for endpoint in endpoints),
        in_flight=sum(load.in_flight for load in loads),
        waiting=sum(load.waiting for load in loads),
        oldest_wait_s=max((load.oldest_wait_s for load in loads if load.waiting), default=0.0),
        arrivals_per_s=sum(load.arrivals_per_s for load in loads),
        endpoints=len(endpoints),
        endpoints_by_state=_counted((endpoint.state for endpoint in endpoints), "serving"),
    )


def endpoint_rows(
    sample: Sample, before: Sample | None, order: Order, part: str
) -> list[EndpointRow]:
    """The endpoints with this in their name, sorted."""
    states = {e.id: e.state for e in before.endpoints} if before is not None else {}
    rows = [
        _endpoint_row(endpoint, changed=states.get(endpoint.id, endpoint.state) != endpoint.state)
        for endpoint in sample.endpoints
        if part.lower() in endpoint.app_name.lower()
    ]
    return sorted(rows, key=_ORDERS[order])


def node_rows(sample: Sample, part: str = "") -> list[NodeRow]:
    """The nodes, by id; with a part of a name only those that have it, unless none has."""
    found = [node for node in sample.nodes if part.lower() in node.id.lower()]
    return [_node_row(node) for node in (found or sample.nodes)]


def _endpoint_row(endpoint: EndpointDocument, *, changed: bool) -> EndpointRow:
    load = endpoint.load
    return EndpointRow(
        app_name=endpoint.app_name,
        state=endpoint.state,
        reason=endpoint.reason,
        message=endpoint.message,
        changed=changed,
        running=endpoint.workers_running,
        desired=endpoint.workers_desired,
        most=endpoint.workers.max,
        in_flight=load.in_flight,
        slots=endpoint.workers_running * endpoint.workers.max_concurrency,
        waiting=load.waiting,
        oldest_wait_s=load.oldest_wait_s if load.waiting else None,
        arrivals_per_s=load.arrivals_per_s,
        p50_s=load.service_p50_s,
        p99_s=load.service_p99_s,
    )


def _state_place(row: EndpointRow) -> int:
    return _STATES.index(EndpointState(row.state))


#: What is more comes first, and then by name.
_ORDERS: Final[dict[Order, Callable[[EndpointRow], tuple[Any, ...]]]] = {
    Order.WAITING: lambda row: (
        -row.waiting,
        -(row.oldest_wait_s or 0.0),
        _state_place(row),
        -row.in_flight,
        row.app_name,
    ),
    Order.RATE: lambda row: (-row.arrivals_per_s, row.app_name),
    Order.IN_FLIGHT: lambda row: (-row.in_flight, row.app_name),
    Order.WORKERS: lambda row: (-row.running, -row.desired, row.app_name),
    Order.SLOW: lambda row: (-(row.p99_s or 0.0), row.app_name),
    Order.STATE: lambda row: (_state_place(row), row.app_name),
    Order.NAME: lambda row: (row.app_name,),
}


def _node_row(node: NodeDocument) -> NodeRow:
    note = node.order.reason if node.order is not None and node.order.reason else None
    if node.engine_problem is not None:
        note = f"engine {'full' if node.engine_problem.full else 'away'}"
    cpus = node.cpu_count
    load = node.load_1m / cpus if node.load_1m is not None and cpus else None
    memory = None
    if node.memory_bytes and node.memory_available_bytes is not None:
        memory = 1 - node.memory_available_bytes / node.memory_bytes
    return NodeRow(
        node_id=node.id,
        state=node.state,
        note=note,
        gpus_held=sum(gpu.worker_id is not None for gpu in node.gpus),
        gpus=len(node.gpus),
        together=_together(node.gpus) if node.gpus else None,
        each=tuple(_gpu(gpu) for gpu in node.gpus),
        workers=len(node.workers),
        load_ratio=load,
        memory_used_ratio=memory,
    )


def _gpu(gpu: GpuDocument) -> tuple[str, str, GpuRow]:
    holder = gpu.worker_id or ("free" if gpu.healthy else f"unhealthy: {gpu.reason}")
    row = GpuRow(
        gpu.utilization_ratio,
        gpu.memory_used_bytes,
        gpu.vram_bytes,
        gpu.temperature_c,
        gpu.power_w,
    )
    return f"{gpu.product} {gpu.uuid.removeprefix('GPU-')[:8]}", holder, row


def _together(gpus: Sequence[GpuDocument]) -> GpuRow:
    """Mean utilization, all the memory, the hottest one, all the power, of those that tell."""
    ratios = [g.utilization_ratio for g in gpus if g.utilization_ratio is not None]
    memory = [g.memory_used_bytes for g in gpus if g.memory_used_bytes is not None]
    heat = [g.temperature_c for g in gpus if g.temperature_c is not None]
    power = [g.power_w for g in gpus if g.power_w is not None]
    return GpuRow(
        sum(ratios) / len(ratios) if ratios else None,
        sum(memory) if memory else None,
        sum(g.vram_bytes for g in gpus),
        max(heat) if heat else None,
        sum(power) if power else None,
    )


def _counted(states: Iterable[str], usual: str) -> tuple[tuple[str, int], ...]:
    counts = Counter(str(state) for state in states)
    return tuple(sorted((state, n) for state, n in counts.items() if state != usual))
