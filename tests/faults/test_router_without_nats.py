"""NATS is gone for ten seconds, in each of the ways in which it can be, under warm load."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from penstock_router import liveness
from tests.fakes.router_world import CLOCK, http_client, running_world, until
from tests.support.nats_server import NatsServer
from tests.support.router_process import router_process
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]

GONE_S = 10.0
N_CLIENTS = 20


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_no_warm_request_fails_while_nats_is_gone(
    nats_server: NatsServer, tmp_path: Path, how: str
) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client(total_s=60) as session,
        router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1") as process,
    ):
        url = (await process.ready())["X_URL"]
        # Fewer slots than clients: some wait all the time, in the router's own memory then.
        endpoint_id = await world.put_endpoint(
            "echo", workers={"max_concurrency": N_CLIENTS // 2}, queue={"max_wait_s": 50}
        )
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", worker.port)
        await until(lambda: world.last_report("rt-1", endpoint_id))
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(_ask(session, f"{url}/echo/sleep?s=0.02", stop))
            for _ in range(N_CLIENTS)
        ]
        await until(lambda: worker.n_requests > 100, timeout_s=60)
        if how == "killed":
            nats_server.kill()
        else:
            nats_server.freeze()
        before = worker.n_requests
        await asyncio.sleep(GONE_S)
        during = worker.n_requests - before
        if how == "killed":
            nats_server.start()
        else:
            nats_server.thaw()
        after = worker.n_requests
        await until(lambda: worker.n_requests > after + 100, timeout_s=60)
        stop.set()
        async with asyncio.timeout(60):
            answers = sum(await asyncio.gather(*clients))
        assert answers == worker.n_requests  # each one answered with 200
        assert during > 100
        assert worker.most_in_flight == N_CLIENTS // 2


async def test_a_router_that_fences_stops_when_others_may_take_it_for_dead(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client(total_s=60) as session,
        router_process(
            tmp_path,
            nats_url=nats_server.url,
            port="0",
            router_id="rt-1",
            on_partition="fence",
        ) as process,
    ):
        url = (await process.ready())["X_URL"]
        endpoint_id = await world.put_endpoint("echo", queue={"max_wait_s": 1})
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", worker.port)

        def accepted() -> bool:
            report = world.last_report("rt-1", endpoint_id)
            return report is not None and any(load.accepting for load in report.workers)

        await until(accepted)

        async def status() -> int:
            async with session.get(f"{url}/echo/sleep?s=0") as response:
                return response.status

        assert await status() == 200
        killed_at = CLOCK.monotonic()
        nats_server.kill()
        # Nobody takes it for dead yet, unless the machine stalls for as long as that takes.
        assert await status() == 200 or CLOCK.monotonic() - killed_at > liveness.LOST_S / 2
        async with asyncio.timeout(60):
            while await status() == 200:  # noqa: ASYNC110  # asked over HTTP
                await asyncio.sleep(0.1)
        n_before = worker.n_requests
        assert await status() == 503
        assert worker.n_requests == n_before
        nats_server.start()
        async with asyncio.timeout(60):
            while await status() != 200:  # noqa: ASYNC110  # asked over HTTP
                await asyncio.sleep(0.1)


async def _ask(session: aiohttp.ClientSession, url: str, stop: asyncio.Event) -> int:
    n = 0
    while not stop.is_set():
        async with session.get(url) as response:
            assert response.status == 200, await response.text()
            await response.read()
        n += 1
    return n
