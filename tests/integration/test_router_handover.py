"""A worker that gets another driver while its slots are out, and slots that are lent ahead."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from penstock_common import subjects
from penstock_router import heartbeat
from penstock_router.app import Router
from penstock_router.slot_protocol import claims, lender
from tests.fakes.router_world import (
    RunningRouter,
    World,
    accepts,
    http_client,
    in_use,
    running_router,
    running_world,
    until,
    waiting,
)
from tests.support.nats_server import NatsServer
from tests.support.upstream import UpstreamServer, running_upstream

pytestmark = pytest.mark.nats


class Trio:
    """Three routers and one worker, which the first of them drives."""

    def __init__(
        self,
        world: World,
        routers: list[RunningRouter],
        worker: UpstreamServer,
        client: aiohttp.ClientSession,
    ) -> None:
        self.world = world
        self.running = routers
        self.one, self.two, self.three = (each.router for each in routers)
        self.worker = worker
        self.client = client

    def ask(self, router: Router, path: str) -> asyncio.Task[str]:
        return asyncio.create_task(self._text(router, path))

    async def _text(self, router: Router, path: str) -> str:
        async with self.client.get(router.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.text()

    async def prepare(self, n_slots: int) -> None:
        routers = (self.one, self.two, self.three)
        await self.world.put_endpoint(
            "echo", *routers, workers={"max_concurrency": n_slots}, queue={"max_wait_s": 120}
        )
        await self.world.run_worker("ep-echo", "wk-1", self.worker.port, self.one)


@pytest_asyncio.fixture
async def trio(nats_server: NatsServer) -> AsyncIterator[Trio]:
    url = nats_server.url
    async with (
        running_world(url) as world,
        running_upstream() as worker,
        running_router(url, router_id="rt-1") as one,
        running_router(url, router_id="rt-2") as two,
        running_router(url, router_id="rt-3") as three,
        http_client() as client,
    ):
        yield Trio(world, [one, two, three], worker, client)


async def test_a_new_driver_counts_what_is_out_at_the_old_one_and_at_others(trio: Trio) -> None:
    await trio.prepare(3)
    held = [trio.ask(router, "/echo/hold") for router in (trio.one, trio.two, trio.three)]
    await until(lambda: trio.worker.in_flight == 3)
    await trio.world.assign("ep-echo", "wk-1", "rt-2")
    await until(lambda: accepts(trio.two, "ep-echo", "wk-1"), what="the new driver reigns")
    assert in_use(trio.two, "ep-echo") == 3
    assert in_use(trio.one, "ep-echo") == 0
    more = [trio.ask(router, "/echo/sleep?s=0") for router in (trio.one, trio.two, trio.three)]
    await until(lambda: sum(waiting(r, "ep-echo") for r in (trio.one, trio.two, trio.three)) == 3)
    assert trio.worker.in_flight == 3
    trio.worker.release.set()
    assert await asyncio.gather(*held, *more) == ["held"] * 3 + ["slept"] * 3
    assert trio.worker.most_in_flight == 3
    await until(lambda: in_use(trio.two, "ep-echo") == 0)


async def test_a_worker_is_handed_from_router_to_router_under_load(trio: Trio) -> None:
    await trio.prepare(2)
    routers = (trio.one, trio.two, trio.three)
    asked = [trio.ask(router, "/echo/sleep?s=0.02") for _ in range(60) for router in routers]
    for router_id in ("rt-2", "rt-3", "rt-1", "rt-3", "rt-2"):
        await trio.world.assign("ep-echo", "wk-1", router_id)
        done = trio.worker.n_requests
        await until(
            lambda done=done: trio.worker.n_requests > done + 5,  # type: ignore[misc]  # bound now
            what="requests go on",
        )
    assert await asyncio.gather(*asked) == ["slept"] * 180
    assert trio.worker.most_in_flight == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is waited for for minutes."""
    monkeypatch.setattr(claims, "LIMIT_S", 600.0)
    monkeypatch.setattr(heartbeat, "TTL_S", 600)


async def test_a_router_that_leaves_in_order_is_not_waited_for(patient: None, trio: Trio) -> None:
    await trio.prepare(2)
    await trio.running[0].router.drain()
    await trio.running[0].close()
    await trio.world.assign("ep-echo", "wk-1", "rt-2")
    async with asyncio.timeout(60):
        assert await trio.ask(trio.three, "/echo/sleep?s=0") == "slept"


async def test_a_router_that_keeps_asking_needs_no_grant_per_request(trio: Trio) -> None:
    await trio.prepare(64)
    grants: list[bytes] = []
    await trio.world.bus.subscribe(
        subjects.router_grant("rt-2"), lambda message: grants.append(message.data)
    )
    for _ in range(10):
        answers = await asyncio.gather(*(trio.ask(trio.two, "/echo/sleep?s=0") for _ in range(8)))
        assert answers == ["slept"] * 8
    assert len(grants) < 40  # some more, should this process stand still between two rounds
    # What it keeps unused goes back by itself.
    await until(lambda: in_use(trio.one, "ep-echo") == 0, what="loans are back")
    report = trio.world.last_report("rt-1", "ep-echo")
    await until(
        lambda: (
            (report := trio.world.last_report("rt-1", "ep-echo")) is not None
            and sum(w.requests_total for w in report.workers) == 80
        ),
        what=f"all are counted {report}",
    )


async def test_slots_lent_ahead_come_back_when_clients_wait(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lender, "KEEP_S", 600.0)  # none comes back by itself
    await trio.prepare(8)
    for _ in range(4):  # the second router now keeps slots that it does not use
        await asyncio.gather(*(trio.ask(trio.two, "/echo/sleep?s=0") for _ in range(3)))
    await until(lambda: in_use(trio.one, "ep-echo") > 0)
    held = [trio.ask(trio.one, "/echo/hold") for _ in range(8)]
    await until(lambda: trio.worker.in_flight == 8)
    trio.worker.release.set()
    assert await asyncio.gather(*held) == ["held"] * 8
    assert trio.worker.most_in_flight == 8
