"""The `penstock-router` process: starts late or early, says ready, drains, shares its port."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.nats.kv import Bucket
from tests.fakes.router_world import http_client, running_world, until
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.router_process import router_process
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]


async def test_serves_and_drains_when_told_to_stop(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client() as client,
        router_process(
            tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1", drain_timeout_s="60"
        ) as process,
    ):
        url = (await process.ready())["X_URL"]
        assert await Bucket(world.bus, subjects.ROUTERS).get("rt-1")
        endpoint_id = await world.put_endpoint("echo")
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", worker.port)
        await until(lambda: world.last_report("rt-1", endpoint_id))

        async def hold() -> str:
            async with client.get(f"{url}/echo/hold") as response:
                return await response.text()

        held = asyncio.create_task(hold())
        await until(lambda: worker.in_flight == 1)
        stopped = asyncio.create_task(process.stop())
        report = None

        def accepts_no_more() -> bool:
            nonlocal report
            report = world.last_report("rt-1", endpoint_id)
            return report is not None and not any(w.accepting for w in report.workers)

        await until(accepts_no_more)
        worker.release.set()
        assert await held == "held"
        assert await stopped == 0
        assert await Bucket(world.bus, subjects.ROUTERS).get("rt-1") is None


async def test_what_does_not_end_in_time_is_cut(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client() as client,
        router_process(
            tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1", drain_timeout_s="0.3"
        ) as process,
    ):
        url = (await process.ready())["X_URL"]
        endpoint_id = await world.put_endpoint("echo")
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", worker.port)
        await until(lambda: world.last_report("rt-1", endpoint_id))
        held = asyncio.create_task(client.get(f"{url}/echo/hold").__aenter__())
        await until(lambda: worker.in_flight == 1)
        assert await process.stop() == 0
        await until(lambda: worker.n_cancelled == 1)
        await asyncio.wait({held})
        assert held.exception() is not None


async def test_waits_for_nats(nats_server: NatsServer, tmp_path: Path) -> None:
    nats_server.kill()
    async with router_process(tmp_path, nats_url=nats_server.url, port="0") as process:
        await asyncio.sleep(1.5)  # it has tried and failed by now
        assert process.process.returncode is None
        nats_server.start()
        assert (await process.ready())["X_URL"].startswith("http://127.0.0.1:")
        assert await process.stop(signal.SIGINT) == 0


async def test_two_processes_share_a_port(nats_server: NatsServer, tmp_path: Path) -> None:
    port = str(free_port())
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client() as client,
        router_process(
            tmp_path, nats_url=nats_server.url, port=port, reuse_port="true", router_id="rt-1"
        ) as one,
    ):
        await one.ready()
        async with router_process(
            tmp_path, nats_url=nats_server.url, port=port, reuse_port="true", router_id="rt-2"
        ) as two:
            await two.ready()
            endpoint_id = await world.put_endpoint(
                "echo", workers={"max_concurrency": 3}, queue={"max_wait_s": 20}
            )
            await world.assign(endpoint_id, "wk-1", "rt-1")
            await world.put_worker_status("wk-1", worker.port)
            await until(lambda: world.last_report("rt-1", endpoint_id))

            async def sleep() -> str:
                async with client.get(f"http://127.0.0.1:{port}/echo/sleep?s=0.01") as response:
                    return await response.text()

            answers = await asyncio.gather(*(sleep() for _ in range(60)))
            assert answers == ["slept"] * 60
            assert worker.most_in_flight == 3
            await until(
                lambda: all(
                    (report := world.last_report(router_id, endpoint_id)) and report.arrivals_total
                    for router_id in ("rt-1", "rt-2")
                ),
                what="both have had some of them",
            )


async def test_a_port_in_use_is_the_operators_mistake(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with router_process(tmp_path, nats_url=nats_server.url, port=port) as process:
            async with asyncio.timeout(60):
                assert await process.process.wait() == 2


async def test_a_setting_that_cannot_be_is_the_operators_mistake(tmp_path: Path) -> None:
    async with router_process(tmp_path, port="http") as process, asyncio.timeout(60):
        assert await process.process.wait() == 2
