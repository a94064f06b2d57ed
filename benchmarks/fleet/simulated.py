"""Simulated nodes, endpoints and one router: real records over NATS, and a runtime that only says so.

A worker "runs" as soon as its node has seen the assignment. The nodes share a few connections and one
watch of the assignments, where real agents have two connections and a watch each.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.messages import (
    EndpointRecord,
    Gpu,
    NodeRecord,
    QueueReport,
    RouterRecord,
    WorkerAssignment,
    WorkerLoad,
    WorkerStatus,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Row, WatchedTable
from penstock_common.specs import parse_endpoint
from penstock_common.states import DesiredState, Phase, WorkerState

HEARTBEAT_EVERY_S: Final = 3.0
HEARTBEAT_TTL_S: Final = 10
REPORT_EVERY_S: Final = 1.0
SLICE_S: Final = 0.05
ROUTER: Final = "rt-fleet"
_STATES: Final = {
    DesiredState.RUNNING: WorkerState.RUNNING,
    DesiredState.DRAINING: WorkerState.DRAINING,
    DesiredState.STOPPED: WorkerState.STOPPED,
}


def make_node(i: int, clock: Clock) -> NodeRecord:
    """A node of 8 GPUs."""
    name = f"node-{i:05}"
    return NodeRecord(
        node_id=name,
        hostname=name,
        address="127.0.0.1",
        runtime="docker",
        gpus=tuple(
            Gpu(uuid=f"GPU-{i}-{g}", product="h100-80gb", vram_bytes=80 * 10**9) for g in range(8)
        ),
        cuda_version="12.8",
        cpu_count=64,
        memory_bytes=512 * 10**9,
        disk_free_bytes=10**12,
        images=("models/0:1",),
        version="0",
        started_at=clock.utc(),
        beat=1,
    )


def make_endpoint(i: int, clock: Clock) -> EndpointRecord:
    """Every second endpoint keeps one worker; the others are at zero."""
    name = f"ep-{i:05}"
    document = {
        "name": name,
        "app_name": name,
        "image": {"image": "models/0:1"},
        "workers": {"min": (i + 1) % 2, "max": 3, "idle_timeout_s": 3},
    }
    now = clock.utc()
    return EndpointRecord(
        endpoint_id=name,
        spec=parse_endpoint(document),
        revision=1,
        created_at=now,
        updated_at=now,
    )


class Fleet:
    """The nodes, the router, and who waits."""

    def __init__(self, buses: list[Bus], clock: Clock, size: int) -> None:
        self._bus, self._buses, self._clock = buses[0], buses, clock
        self.nodes = [make_node(i, clock) for i in range(size)]
        self.endpoints = [make_endpoint(i, clock) for i in range(size)]
        #: endpoint → when its first report of a waiting request went out
        self.asked_at: dict[str, float] = {}
        #: seconds from such a report to the sight of the assignment
        self.reactions_s: list[float] = []
        self.assignments = WatchedTable(
            self._bus, subjects.WORKERS, _decode, keys="*.*", on_change=self._note
        )
        self._running: dict[str, float] = {}
        self._written: dict[str, WorkerState] = {}
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._per_endpoint: dict[str, dict[str, tuple[WorkerAssignment, int]]] = {}

    @property
    def n_running(self) -> int:
        """Workers that run."""
        return len(self._running)

    async def begin(self) -> None:
        """Write every record once."""
        await self.assignments.start()
        await self._beat_router()
        endpoints = Bucket(self._bus, subjects.ENDPOINTS)
        for start in range(0, len(self.nodes), 200):
            await asyncio.gather(*(self._beat(n) for n in self.nodes[start : start + 200]))
            await asyncio.gather(
                *(
                    endpoints.put(e.endpoint_id, e.encode())
                    for e in self.endpoints[start : start + 200]
                )
            )

    async def run(self) -> None:
        """Beat, report, and run workers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beats(), name="beats")
            tasks.create_task(self._reports(), name="reports")
            for n in range(16):
                tasks.create_task(self._runtime(), name=f"runtime {n}")

    async def ask(self, i: int) -> None:
        """A request comes to an endpoint at zero: its router reports it at once."""
        endpoint_id = self.endpoints[i].endpoint_id
        self.asked_at[endpoint_id] = self._clock.monotonic()
        await self._report(endpoint_id)

    def _note(self, key: str, row: Row[WorkerAssignment | None] | None) -> None:
        if row is None:
            for workers in self._per_endpoint.values():
                if workers.pop(key, None):
                    break
        elif row.value is not None:
            assignment = row.value
            asked_at = self.asked_at.get(assignment.endpoint_id)
            workers = self._per_endpoint.setdefault(assignment.endpoint_id, {})
            if asked_at is not None and key not in workers:
                self.reactions_s.append(self._clock.monotonic() - asked_at)
                del self.asked_at[assignment.endpoint_id]
            workers[key] = (assignment, row.revision)
        self._changed.put_nowait(key)

    async def _runtime(self) -> None:
        bucket = Bucket(self._bus, subjects.WORKER_STATUS)
        while True:
            key = await self._changed.get()
            row = self.assignments.rows.get(key)
            if row is None:
                if self._written.pop(key, None):
                    await bucket.delete(key)
                self._running.pop(key, None)
            elif row.value is not None:
                state = _STATES[row.value.desired]
                if self._written.get(key) is state:
                    continue
                self._written[key] = state
                await bucket.put(key, self._status(row.value, state).encode())
                if state is WorkerState.STOPPED:
                    self._running.pop(key, None)
                else:
                    self._running.setdefault(key, self._clock.monotonic())

    def _status(self, assignment: WorkerAssignment, state: WorkerState) -> WorkerStatus:
        utc = self._clock.utc()
        return WorkerStatus(
            worker_id=assignment.worker_id,
            node_id=assignment.node_id,
            endpoint_id=assignment.endpoint_id,
            revision=assignment.revision,
            state=state,
            host="127.0.0.1",
            port=1,
            phases={Phase.RECEIVED: utc, Phase.HEALTHY: utc},
            updated_at=utc,
        )

    async def _beats(self) -> None:
        async def one_slice(start: int, stop: int) -> None:
            await asyncio.gather(*(self._beat(node) for node in self.nodes[start:stop]))
            if start == 0:
                await self._beat_router()

        await self._paced(len(self.nodes), HEARTBEAT_EVERY_S, one_slice)

    async def _reports(self) -> None:
        async def one_slice(start: int, stop: int) -> None:
            for endpoint in self.endpoints[start:stop]:
                name = endpoint.endpoint_id
                if self._per_endpoint.get(name) or name in self.asked_at:
                    await self._report(name)

        await self._paced(len(self.endpoints), REPORT_EVERY_S, one_slice)

    async def _paced(
        self, n: int, every_s: float, one_slice: Callable[[int, int], Awaitable[None]]
    ) -> None:
        n_slices = round(every_s / SLICE_S)
        due = self._clock.monotonic()
        while True:
            for k in range(n_slices):
                await one_slice(n * k // n_slices, n * (k + 1) // n_slices)
                due += SLICE_S
                await asyncio.sleep(max(0.0, due - self._clock.monotonic()))

    async def _beat(self, node: NodeRecord) -> None:
        bus = self._buses[hash(node.node_id) % len(self._buses)]
        await Bucket(bus, subjects.NODES).put(node.node_id, node.encode(), ttl_s=HEARTBEAT_TTL_S)

    async def _beat_router(self) -> None:
        record = RouterRecord(
            router_id=ROUTER,
            hostname="localhost",
            url="http://127.0.0.1:1",
            version="0",
            started_at=self._clock.utc(),
            beat=1,
        )
        await Bucket(self._bus, subjects.ROUTERS).put(
            ROUTER, record.encode(), ttl_s=HEARTBEAT_TTL_S
        )

    async def _report(self, endpoint_id: str) -> None:
        waiting = int(endpoint_id in self.asked_at)
        now = self._clock.monotonic()
        workers = tuple(
            WorkerLoad(
                worker_id=assignment.worker_id,
                in_flight=0,
                accepting=key in self._running and assignment.desired is DesiredState.RUNNING,
                idle_s=now - self._running.get(key, now),
                assignment_revision=revision,
            )
            for key, (assignment, revision) in self._per_endpoint.get(endpoint_id, {}).items()
        )
        report = QueueReport(
            router_id=ROUTER,
            endpoint_id=endpoint_id,
            sent_at=self._clock.utc(),
            waiting=waiting,
            oldest_wait_s=0.0,
            in_flight=0,
            arrivals_total=waiting,
            completions_total=0,
            workers=workers,
        )
        await self._bus.publish(subjects.queue_metrics(endpoint_id), report.encode())


def _decode(data: bytes) -> WorkerAssignment | None:
    return WorkerAssignment.decode(data) if b'"worker_id"' in data else None
