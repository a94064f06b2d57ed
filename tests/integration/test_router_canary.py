"""A canary behind two routers, one of which drives both sides: the share over all requests."""

import asyncio
from collections import Counter

import pytest

from penstock_common.messages import Canary
from penstock_router.app import Router
from tests.fakes.router_world import (
    accepts,
    http_client,
    knows,
    running_router,
    running_world,
    until,
)
from tests.support.nats_server import NatsServer
from tests.support.upstream import running_upstream

pytestmark = pytest.mark.nats

#: Clients at each router; each worker has a slot for all of them.
N_CLIENTS = 4
N_REQUESTS = 400


async def test_requests_of_all_routers_are_counted_at_one_place(nats_server: NatsServer) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as stable,
        running_upstream() as canary,
        running_router(nats_server.url, router_id="rt-driver") as running_driver,
        running_router(nats_server.url, router_id="rt-other") as running_other,
        http_client() as client,
    ):
        driver, other = running_driver.router, running_other.router
        limits = {"max_concurrency": 2 * N_CLIENTS}
        endpoint_id = await world.put_endpoint("echo", driver, other, workers=limits)
        await world.run_worker(endpoint_id, "wk-1", stable.port, driver)

        async def ask(router: Router, n: int) -> Counter[str]:
            served = Counter[str]()

            async def one_client() -> None:
                for _ in range(n // N_CLIENTS):
                    async with client.get(f"{router.url}/echo/sleep?s=0.001") as answer:
                        assert answer.status == 200, await answer.text()
                        served[answer.headers["X-Penstock-Worker"]] += 1

            await asyncio.gather(*(one_client() for _ in range(N_CLIENTS)))
            return served

        await ask(other, 40)
        assert len(driver.lender) > 0  # slots that the other router keeps for its next requests
        record = world.endpoint(endpoint_id)
        shared = record.model_copy(
            update={"revision": 2, "canary": Canary(percent=20, stable=1, spec=record.spec)}
        )
        await world.change_endpoint(shared)
        await until(lambda: knows(driver, shared) and knows(other, shared))
        await world.assign(endpoint_id, "wk-2", driver.router_id, revision=2)
        await world.put_worker_status("wk-2", canary.port)
        await until(lambda: accepts(driver, endpoint_id, "wk-2"))
        await until(lambda: len(driver.lender) == 0, what="what was lent has come back")

        both = await asyncio.gather(*(ask(router, N_REQUESTS // 2) for router in (driver, other)))
        served = sum(both, Counter[str]())
        assert served.total() == N_REQUESTS
        assert abs(served["wk-2"] - N_REQUESTS * 0.2) <= N_REQUESTS * 0.01
