"""Bodies larger than any memory that a router should need for them."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes.router_world import running_world, until
from tests.support.bulk import BulkWorker, download, upload
from tests.support.nats_server import NatsServer
from tests.support.router_process import router_process

pytestmark = [pytest.mark.nats, pytest.mark.slow]

N_BYTES = 2 << 30
MOST_GROWTH = 64 << 20


def memory_bytes(pid: int) -> int:
    """The most resident memory that this process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


async def test_two_gibibytes_each_way_grow_the_router_by_less_than_64_mib(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    worker = BulkWorker()
    try:
        async with (
            running_world(nats_server.url) as world,
            router_process(
                tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1"
            ) as process,
        ):
            port = int((await process.ready())["X_URL"].rpartition(":")[2])
            endpoint_id = await world.put_endpoint("bulk", workers={"max_concurrency": 2})
            await world.assign(endpoint_id, "wk-1", "rt-1")
            await world.put_worker_status("wk-1", worker.port)
            await until(
                lambda: (
                    (report := world.last_report("rt-1", endpoint_id)) is not None
                    and any(load.accepting for load in report.workers)
                )
            )
            # Once through both ways, so that what is loaded lazily is there.
            await asyncio.to_thread(upload, port, "/bulk/", 1 << 20)
            await asyncio.to_thread(download, port, f"/bulk/{1 << 20}")
            before = memory_bytes(process.process.pid)
            taken, given = await asyncio.gather(
                asyncio.to_thread(upload, port, "/bulk/", N_BYTES),
                asyncio.to_thread(download, port, f"/bulk/{N_BYTES}"),
            )
            assert (taken, given) == (N_BYTES, N_BYTES)
            assert memory_bytes(process.process.pid) - before < MOST_GROWTH
    finally:
        worker.close()
