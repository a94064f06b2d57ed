"""Everything round a real scheduler on a real nats-server: api, agents and a router, by hand.

The nodes' agents follow their assignments through a watched table and start workers at once; the
router reports what a test tells it to.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.errors import PenstockError
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    NodeRecord,
    QueueReport,
    RouterRecord,
    WorkerAssignment,
    WorkerLoad,
    WorkerStatus,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Row, WatchedTable
from penstock_common.nats.streams import ensure_streams
from penstock_common.states import DesiredState, Phase, WorkerState
from penstock_scheduler.app import serve
from penstock_scheduler.settings import Settings
from tests.support.bus import connected, eventually

HEARTBEAT_TTL_S = 10


class Site:
    """The others, over one connection."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.clock = SystemClock()
        self.nodes: dict[str, NodeRecord] = {}
        self.routers = {"rt-1"}
        #: false = heartbeats stay away
        self.beating = True
        #: what the router says of its queue
        self.waiting = 0
        #: worker → requests in flight at it
        self.in_flight: dict[str, int] = {}
        self.idle_s = 0.0
        self.reports_of: set[str] = set()
        self.assignments = WatchedTable(
            bus, subjects.WORKERS, _decode, keys="*.*", on_change=self._on_assignment
        )
        self.statuses = WatchedTable(bus, subjects.ENDPOINT_STATUS, EndpointStatus.decode)
        self._written: dict[str, WorkerStatus] = {}
        self._poked = asyncio.Event()

    async def put(self, record: EndpointRecord) -> None:
        await Bucket(self.bus, subjects.ENDPOINTS).put(record.endpoint_id, record.encode())
        self.reports_of.add(record.endpoint_id)

    async def put_key(self, key: ApiKeyRecord) -> None:
        await Bucket(self.bus, subjects.API_KEYS).put(key.key_id, key.encode())

    async def join(self, node: NodeRecord) -> None:
        self.nodes[node.node_id] = node
        await self.beat()

    async def beat(self) -> None:
        for node in list(self.nodes.values()):  # one may join while this waits
            await Bucket(self.bus, subjects.NODES).put(
                node.node_id, node.encode(), ttl_s=HEARTBEAT_TTL_S
            )
        for router_id in list(self.routers):
            record = RouterRecord(
                router_id=router_id,
                hostname="localhost",
                url="http://127.0.0.1:1",
                version="0",
                started_at=self.clock.utc(),
                beat=1,
            )
            await Bucket(self.bus, subjects.ROUTERS).put(
                router_id, record.encode(), ttl_s=HEARTBEAT_TTL_S
            )

    def of(self, endpoint_id: str = "ep-1") -> list[WorkerAssignment]:
        return [
            row.value
            for row in self.assignments.rows.values()
            if row.value is not None and row.value.endpoint_id == endpoint_id
        ]

    def status(self, endpoint_id: str = "ep-1") -> EndpointStatus | None:
        row = self.statuses.rows.get(endpoint_id)
        return row.value if row else None

    def running(self, endpoint_id: str = "ep-1") -> int:
        status = self.status(endpoint_id)
        return status.workers_running if status else 0

    async def wait(self, endpoint_id: str = "ep-1") -> None:
        """A request waits from now on: the router reports it at once."""
        self.waiting = 1
        await self.report(endpoint_id)

    async def report(self, endpoint_id: str = "ep-1") -> None:
        for router_id in list(self.routers):
            report = self._report(endpoint_id, router_id)
            await self.bus.publish(subjects.queue_metrics(endpoint_id), report.encode())

    def _report(self, endpoint_id: str, router_id: str) -> QueueReport:
        workers = []
        for key, row in self.assignments.rows.items():
            assignment = row.value
            if assignment is None or assignment.driver != router_id:
                continue
            status = self._written.get(key)
            runs = status is not None and status.state is WorkerState.RUNNING
            workers.append(
                WorkerLoad(
                    worker_id=assignment.worker_id,
                    in_flight=self.in_flight.get(assignment.worker_id, 0),
                    accepting=runs and assignment.desired is DesiredState.RUNNING,
                    idle_s=self.idle_s,
                    assignment_revision=row.revision,
                )
            )
        return QueueReport(
            router_id=router_id,
            endpoint_id=endpoint_id,
            sent_at=self.clock.utc(),
            waiting=self.waiting,
            oldest_wait_s=0.1 if self.waiting else 0.0,
            in_flight=sum(load.in_flight for load in workers),
            arrivals_total=self.waiting,
            completions_total=0,
            workers=tuple(workers),
        )

    async def run(self) -> None:
        """Beat, report and start workers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beats(), name="site-beats")
            tasks.create_task(self._reports(), name="site-reports")
            tasks.create_task(self._agents(), name="site-agents")

    async def _beats(self) -> None:
        while True:
            if self.beating:
                with contextlib.suppress(PenstockError):
                    await self.beat()
            await asyncio.sleep(1.0)

    async def _reports(self) -> None:
        while True:
            for endpoint_id in self.reports_of:
                with contextlib.suppress(PenstockError):
                    await self.report(endpoint_id)
            await asyncio.sleep(0.2)

    def _on_assignment(self, key: str, row: Row[WorkerAssignment | None] | None) -> None:
        self._poked.set()

    async def _agents(self) -> None:
        bucket = Bucket(self.bus, subjects.WORKER_STATUS)
        while True:
            self._poked.clear()
            with contextlib.suppress(PenstockError):
                await self._reconcile(bucket)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._poked.wait()

    async def _reconcile(self, bucket: Bucket) -> None:
        if not self.assignments.synced:
            return
        for key, row in list(self.assignments.rows.items()):
            if row.value is None:
                continue
            status = self._status(row.value)
            if key not in self._written or self._written[key].state is not status.state:
                await bucket.put(key, status.encode())
                self._written[key] = status
        for key in [k for k in self._written if k not in self.assignments.rows]:
            await bucket.delete(key)
            del self._written[key]

    def _status(self, assignment: WorkerAssignment) -> WorkerStatus:
        state = {
            DesiredState.RUNNING: WorkerState.RUNNING,
            DesiredState.DRAINING: WorkerState.DRAINING,
            DesiredState.STOPPED: WorkerState.STOPPED,
        }[assignment.desired]
        utc = self.clock.utc()
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


def _decode(data: bytes) -> WorkerAssignment | None:
    try:
        return WorkerAssignment.decode(data)
    except ValueError:
        return None  # the lease


@asynccontextmanager
async def site_at(url: str) -> AsyncIterator[Site]:
    """A site that runs."""
    async with connected(url, name="site") as bus:
        await ensure_streams(bus)
        site = Site(bus)
        await site.assignments.start()
        await site.statuses.start()
        task = asyncio.create_task(site.run(), name="site")
        try:
            yield site
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is not None:
                raise AssertionError("the site died") from task.exception()
            await site.assignments.stop()
            await site.statuses.stop()


@asynccontextmanager
async def scheduling(url: str, **settings: object) -> AsyncIterator[None]:
    """A scheduler in this process; it must end without an error."""
    stopping = asyncio.Event()
    values = Settings.model_validate({"nats_url": url, **settings})
    task = asyncio.create_task(partial(serve, values)(stopping), name="scheduler")
    try:
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(60):
            await task


class SchedulerProcess:
    """A scheduler in a process of its own."""

    def __init__(self, url: str, log: Path, **variables: str) -> None:
        self.log = log
        env = {**os.environ, "PENSTOCK_SCHEDULER_NATS_URL": url, **variables}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock_scheduler"], env=env, stdout=out, stderr=out
            )

    def says(self, action: str) -> bool:
        """Whether its log has a line with this action."""
        return f'"action": "{action}"' in self.log.read_text()

    async def wait_says(self, action: str) -> None:
        await eventually(lambda: self.says(action), within_s=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def scheduler_process(url: str, log: Path, **variables: str) -> Iterator[SchedulerProcess]:
    """A process that is gone afterwards."""
    process = SchedulerProcess(url, log, **variables)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()
