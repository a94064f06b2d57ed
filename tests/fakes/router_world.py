"""The other services, as a router sees them: whoever writes endpoints, workers, statuses, keys.

Writes real records into a real nats-server, and runs routers in this process.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from penstock_common import ids, subjects
from penstock_common.clock import SystemClock
from penstock_common.entropy import random_id
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    QueueReport,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_common.nats import streams
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.kv import Bucket
from penstock_common.settings import NatsSettings
from penstock_common.specs import parse_endpoint
from penstock_common.states import DesiredState, EndpointState, WorkerState
from penstock_router.app import Router
from penstock_router.settings import RouterSettings
from tests.support.bus import PATIENT_S

CLOCK = SystemClock()
NODE = "node-test"


async def until(
    condition: Callable[[], object], *, timeout_s: float = 60.0, what: str = ""
) -> None:
    """Return once `condition()` holds; fail after the timeout."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110  # what is awaited has no event of its own
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:g} s: {what or condition}") from None


class World:
    """api, scheduler and node agents in one."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.reports: list[QueueReport] = []
        self._records: dict[str, EndpointRecord] = {}
        self._assignments: dict[str, WorkerAssignment] = {}

    async def start(self) -> None:
        await streams.ensure_streams(self.bus)
        await self.bus.subscribe(subjects.QUEUE_METRICS_ALL, self._on_report)

    def _on_report(self, message: Received) -> None:
        self.reports.append(QueueReport.decode(message.data))

    def last_report(self, router_id: str, endpoint_id: str) -> QueueReport | None:
        """The newest report of this router about this endpoint."""
        for report in reversed(self.reports):
            if (report.router_id, report.endpoint_id) == (router_id, endpoint_id):
                return report
        return None

    # ---- as the api

    async def put_endpoint(
        self, app: str, *routers: Router, public: bool = True, **sections: Any
    ) -> str:
        """Write an endpoint named `app` and give its id, once these routers know it."""
        endpoint_id = f"ep-{app}"
        spec = parse_endpoint(
            {"name": app, "app_name": app, "image": {"command": "x"}, "public": public, **sections}
        )
        record = EndpointRecord(
            endpoint_id=endpoint_id,
            spec=spec,
            revision=1,
            created_at=CLOCK.utc(),
            updated_at=CLOCK.utc(),
        )
        await self.change_endpoint(record)
        for router in routers:
            await until(functools.partial(knows, router, record), what=f"{app} is known")
        return endpoint_id

    def endpoint(self, endpoint_id: str) -> EndpointRecord:
        return self._records[endpoint_id]

    async def change_endpoint(self, record: EndpointRecord) -> None:
        self._records[record.endpoint_id] = record
        await Bucket(self.bus, subjects.ENDPOINTS).put(record.endpoint_id, record.encode())

    async def delete_endpoint(self, endpoint_id: str) -> None:
        await Bucket(self.bus, subjects.ENDPOINTS).delete(endpoint_id)

    async def put_key(self, secret: str, scope: str = "invoke", *endpoint_ids: str) -> None:
        record = ApiKeyRecord.model_validate(
            {
                "key_id": random_id(ids.API_KEY),
                "sha256": hashlib.sha256(secret.encode()).hexdigest(),
                "scope": scope,
                "endpoint_ids": endpoint_ids,
                "created_at": CLOCK.utc(),
            }
        )
        await Bucket(self.bus, subjects.API_KEYS).put(record.key_id, record.encode())

    # ---- as the scheduler

    async def put_status(self, endpoint_id: str, **fields: Any) -> None:
        status = EndpointStatus.model_validate(
            {
                "endpoint_id": endpoint_id,
                "state": EndpointState.SERVING,
                "revision": 1,
                "fencing_token": 1,
                "updated_at": CLOCK.utc(),
                **fields,
            }
        )
        await Bucket(self.bus, subjects.ENDPOINT_STATUS).put(endpoint_id, status.encode())

    async def assign(
        self,
        endpoint_id: str,
        worker_id: str,
        driver: str | None,
        desired: DesiredState = DesiredState.RUNNING,
        revision: int = 1,
    ) -> int:
        """Write an assignment; gives its revision. Another driver begins another epoch."""
        before = self._assignments.get(worker_id)
        epoch = 1 if before is None else before.driver_epoch + (before.driver != driver)
        assignment = WorkerAssignment(
            worker_id=worker_id,
            node_id=NODE,
            endpoint_id=endpoint_id,
            revision=revision,
            spec=self._records[endpoint_id].spec,
            driver=driver,
            driver_epoch=epoch,
            desired=desired,
            fencing_token=1,
            decided_at=CLOCK.utc(),
            assigned_at=CLOCK.utc(),
        )
        self._assignments[worker_id] = assignment
        key = subjects.worker_key(NODE, worker_id)
        return await Bucket(self.bus, subjects.WORKERS).put(key, assignment.encode())

    async def unassign(self, worker_id: str) -> None:
        key = subjects.worker_key(NODE, worker_id)
        await Bucket(self.bus, subjects.WORKERS).delete(key)

    async def put_lease(self) -> None:
        """What else lies in WORKERS."""
        await Bucket(self.bus, subjects.WORKERS).put(
            subjects.SCHEDULER_LEASE_KEY, b'{"holder":"scheduler","claim":"c","token":1}'
        )

    # ---- as the node agent

    async def put_worker_status(
        self,
        worker_id: str,
        port: int,
        state: WorkerState = WorkerState.RUNNING,
        host: str = "127.0.0.1",
    ) -> None:
        assignment = self._assignments[worker_id]
        status = WorkerStatus(
            worker_id=worker_id,
            node_id=NODE,
            endpoint_id=assignment.endpoint_id,
            revision=1,
            state=state,
            host=host,
            port=port,
            updated_at=CLOCK.utc(),
        )
        key = subjects.worker_key(NODE, worker_id)
        await Bucket(self.bus, subjects.WORKER_STATUS).put(key, status.encode())

    async def run_worker(
        self, endpoint_id: str, worker_id: str, port: int, driver: "Router"
    ) -> None:
        """A worker that runs there, driven by this router, which knows it afterwards."""
        await self.assign(endpoint_id, worker_id, driver.router_id)
        await self.put_worker_status(worker_id, port)
        await until(lambda: accepts(driver, endpoint_id, worker_id), what=f"{worker_id} accepts")


def knows(router: Router, record: EndpointRecord) -> bool:
    """Whether the endpoint has reached this router as this record."""
    return router._catalogue.endpoint(record.endpoint_id) == record


def accepts(router: Router, endpoint_id: str, worker_id: str) -> bool:
    """Whether this router gives out slots of the worker."""
    lane = router.dispatcher.lanes.get(endpoint_id)
    return lane is not None and lane.slots.accepting(worker_id)


def waiting(router: Router, endpoint_id: str) -> int:
    """Clients that wait at this router."""
    lane = router.dispatcher.lanes.get(endpoint_id)
    return len(lane.waiting) if lane else 0


def in_use(router: Router, endpoint_id: str) -> int:
    """Slots of this router's workers that are out."""
    lane = router.dispatcher.lanes.get(endpoint_id)
    return lane.slots.in_flight if lane else 0


def nats_settings(url: str) -> NatsSettings:
    return NatsSettings(nats_url=url)


@contextlib.asynccontextmanager
async def running_world(nats_url: str) -> AsyncIterator[World]:
    bus = await Bus.connect(nats_settings(nats_url), name="world", clock=CLOCK, answer_s=PATIENT_S)
    world = World(bus)
    try:
        await world.start()
        yield world
    finally:
        await bus.close()


class RunningRouter:
    """A router of this process, with its connections, so that a test can end it in bad ways."""

    def __init__(self, router: Router, bus: Bus, beat_bus: Bus) -> None:
        self.router = router
        self.bus = bus
        self.beat_bus = beat_bus
        self.running = asyncio.create_task(router.run(), name="router")
        self.closed = False

    async def vanish(self) -> None:
        """End at once, as if killed: nothing is said to anybody."""
        self.closed = True
        await self.bus.close()
        await self.beat_bus.close()
        await self._end()

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self.running.done() and not self.running.cancelled():
            await self.running  # raises
        await self._end()
        await self.bus.close()
        await self.beat_bus.close()

    async def _end(self) -> None:
        self.running.cancel()
        await asyncio.wait({self.running})
        await self.router.close()


@contextlib.asynccontextmanager
async def running_router(nats_url: str, **settings: Any) -> AsyncIterator[RunningRouter]:
    """A router on a free port."""
    given = RouterSettings.model_validate(
        {"nats_url": nats_url, "port": 0, "drain_timeout_s": 0.5} | settings
    )
    bus = await Bus.connect(given, name="router", clock=CLOCK)
    beat_bus = await Bus.connect(given, name="router-beats", clock=CLOCK)
    for each in (bus, beat_bus):
        await streams.ensure_streams(each)
    router = Router(given, bus=bus, beat_bus=beat_bus, clock=CLOCK)
    await router.start()
    running = RunningRouter(router, bus, beat_bus)
    try:
        yield running
    finally:
        await running.close()


@contextlib.asynccontextmanager
async def http_client(*, total_s: float = 60) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with a connection per request, which asks for exactly what it is told."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=total_s),
        auto_decompress=False,
    ) as session:
        yield session
