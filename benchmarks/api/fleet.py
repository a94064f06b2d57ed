"""What the api's neighbours would say of the endpoints: statuses, and reports of busy queues."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from penstock_common.clock import Clock
from penstock_common.messages import EndpointStatus, QueueReport, WorkerLoad
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_common.sketch import DecayedSketch
from penstock_common.states import EndpointState
from penstock_common.subjects import ENDPOINT_STATUS, queue_metrics

#: Routers say something of each endpoint in use once a second; the api forgets it after 5.
_EVERY_S: Final = 2.0
#: Durations in each report's sketch.
_DURATIONS: Final = 200
_WORKERS: Final = 2


class Fleet:
    """The scheduler and a router, as far as the api hears them."""

    def __init__(self, bus: Bus, clock: Clock, listed: Mapping[str, Any]) -> None:
        """Over the endpoints of this list of the api's."""
        self._bus = bus
        self._clock = clock
        self._ids = [endpoint["id"] for endpoint in listed["endpoints"]]

    async def write_statuses(self) -> None:
        """Every endpoint serves with two workers."""
        statuses = Bucket(self._bus, ENDPOINT_STATUS)
        for endpoint_id in self._ids:
            status = EndpointStatus(
                endpoint_id=endpoint_id,
                state=EndpointState.SERVING,
                revision=1,
                workers_running=_WORKERS,
                desired_workers=_WORKERS,
                fencing_token=1,
                updated_at=self._clock.utc(),
            )
            await statuses.put(endpoint_id, status.encode())

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Within the block a router reports every endpoint's queue."""
        reports = [self._report(endpoint_id) for endpoint_id in self._ids]
        await self._publish(reports)
        task = asyncio.create_task(self._repeat(reports), name="reports")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _repeat(self, reports: list[tuple[str, bytes]]) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._publish(reports)

    async def _publish(self, reports: list[tuple[str, bytes]]) -> None:
        for subject, data in reports:
            await self._bus.publish(subject, data)

    def _report(self, endpoint_id: str) -> tuple[str, bytes]:
        chance, sketch = random.Random(endpoint_id), DecayedSketch()
        for _ in range(_DURATIONS):
            sketch.add(chance.lognormvariate(0.0, 0.7))
        report = QueueReport(
            router_id="rt-benchmark",
            endpoint_id=endpoint_id,
            sent_at=self._clock.utc(),
            waiting=3,
            oldest_wait_s=0.4,
            in_flight=9,
            arrivals_total=1_000,
            completions_total=988,
            service_time_s=1.2,
            service_times=sketch.read(self._clock.monotonic()),
            workers=tuple(
                WorkerLoad(
                    worker_id=f"wk-{endpoint_id}-{n}",
                    in_flight=4,
                    accepting=True,
                    idle_s=0.0,
                    assignment_revision=1,
                )
                for n in range(_WORKERS)
            ),
        )
        return queue_metrics(endpoint_id), report.encode()
