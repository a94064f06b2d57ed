"""NATS stops for ten seconds, frozen or killed, under warm load: no request fails."""

import asyncio
from collections import Counter

import pytest

from tests.fakes.router_world import http_client, running_router, running_world, until
from tests.support.nats_server import NatsServer
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(120)]
DOWN_S = 10.0


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_warm_requests_go_on(nats_server: NatsServer, how: str) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        running_router(nats_server.url) as running,
        http_client() as client,
    ):
        router = running.router
        endpoint_id = await world.put_endpoint(
            "echo", router, workers={"max_concurrency": 4}, queue={"max_wait_s": 30}
        )
        await world.run_worker(endpoint_id, "wk-1", worker.port, router)
        statuses: Counter[int] = Counter()
        ended = asyncio.Event()

        async def load() -> None:
            while not ended.is_set():
                async with client.get(f"{router.url}/echo/sleep?s=0.01") as response:
                    await response.read()
                    statuses[response.status] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(8):  # more than there are slots: some always wait
                group.create_task(load())
            await until(lambda: statuses[200] > 50)
            nats_server.freeze() if how == "frozen" else nats_server.kill()
            await asyncio.sleep(DOWN_S)
            assert not running.bus.connected
            during = statuses.total()
            await until(lambda: statuses.total() > during + 50, timeout_s=15)
            if how == "frozen":
                nats_server.thaw()
            else:
                await asyncio.to_thread(nats_server.start)
            await until(lambda: running.bus.connected, timeout_s=20)
            after = statuses.total()
            await until(lambda: statuses.total() > after + 50, timeout_s=15)
            ended.set()
        assert set(statuses) == {200}, statuses
        assert worker.most_in_flight <= 4
