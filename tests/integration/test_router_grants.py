"""Two routers, one of which drives the workers: tickets, grants, releases through real JetStream."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from penstock_common.states import TicketOutcome
from penstock_router.app import Router
from penstock_router.slot_protocol import lending
from tests.fakes.router_world import (
    RunningRouter,
    World,
    http_client,
    in_use,
    running_router,
    running_world,
    until,
    waiting,
)
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.upstream import UpstreamServer, running_upstream

pytestmark = pytest.mark.nats


class Pair:
    """A driver of one worker with 2 slots of the endpoint `echo`, and another router."""

    def __init__(
        self,
        world: World,
        driver: RunningRouter,
        other: RunningRouter,
        worker: UpstreamServer,
        client: aiohttp.ClientSession,
    ) -> None:
        self.world = world
        self.driver = driver.router
        self.other = other.router
        self.running_other = other
        self.worker = worker
        self.client = client

    async def text(self, router: Router, path: str) -> str:
        async with self.client.get(router.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.text()

    def ended(self, router: Router, outcome: TicketOutcome) -> int:
        return router.dispatcher.lanes["ep-echo"].waiting.ended(outcome)


@pytest_asyncio.fixture
async def pair(nats_server: NatsServer) -> AsyncIterator[Pair]:
    async with (
        running_world(nats_server.url) as world,
        running_upstream(free_port()) as worker,
        running_router(nats_server.url, router_id="rt-driver") as driver,
        running_router(nats_server.url, router_id="rt-other") as other,
        http_client() as client,
    ):
        endpoint_id = await world.put_endpoint(
            "echo",
            driver.router,
            other.router,
            workers={"max_concurrency": 2},
            queue={"max_wait_s": 120},
        )
        await world.run_worker(endpoint_id, "wk-1", worker.port, driver.router)
        yield Pair(world, driver, other, worker, client)


async def test_the_other_router_borrows_a_slot_and_gives_it_back(pair: Pair) -> None:
    held = asyncio.create_task(pair.text(pair.other, "/echo/hold"))
    await until(lambda: pair.worker.in_flight == 1)
    assert in_use(pair.driver, "ep-echo") == 1
    assert len(pair.driver.lender) == 1
    pair.worker.release.set()
    assert await held == "held"
    await until(lambda: in_use(pair.driver, "ep-echo") == 0)
    assert len(pair.driver.lender) == 0
    await until(
        lambda: (
            (r := pair.world.last_report("rt-driver", "ep-echo")) is not None
            and bool(r.workers)
            and (r.workers[0].in_flight, r.workers[0].requests_total) == (0, 1)
        )
    )


async def test_a_borrowed_slot_is_kept_as_long_as_it_is_used(pair: Pair) -> None:
    held = asyncio.create_task(pair.text(pair.other, "/echo/hold"))
    await until(lambda: pair.worker.in_flight == 1)
    # Longer than all that takes a slot back: three lists, or five seconds of silence.
    await asyncio.sleep(6.5)
    assert in_use(pair.driver, "ep-echo") == 1
    pair.worker.release.set()
    assert await held == "held"


async def test_a_hundred_clients_of_two_routers_never_exceed_the_slots(pair: Pair) -> None:
    answers = await asyncio.gather(
        *(
            pair.text(router, "/echo/sleep?s=0.02")
            for _ in range(50)
            for router in (pair.driver, pair.other)
        )
    )
    assert answers == ["slept"] * 100
    assert pair.worker.n_requests == 100
    assert pair.worker.most_in_flight == 2
    await until(lambda: in_use(pair.driver, "ep-echo") == 0)
    assert len(pair.driver.lender) == 0


async def test_whoever_came_first_is_served_first_whichever_router_it_came_to(pair: Pair) -> None:
    holding = [asyncio.create_task(pair.text(pair.driver, "/echo/hold")) for _ in range(2)]
    await until(lambda: pair.worker.in_flight == 2)
    order: list[int] = []

    async def come(n: int, router: Router) -> None:
        await pair.text(router, "/echo/sleep?s=0.01")
        order.append(n)

    tasks = []
    for n in range(8):
        router = (pair.other, pair.driver)[n % 2]
        n_waiting = waiting(router, "ep-echo")
        tasks.append(asyncio.create_task(come(n, router)))
        await _published(router, n_waiting + 1)
    # One slot, so that the order of the answers is that of the dispatches.
    record = pair.world.endpoint("ep-echo")
    workers = record.spec.workers.model_copy(update={"max_concurrency": 1})
    spec = record.spec.model_copy(update={"workers": workers})
    await pair.world.change_endpoint(record.model_copy(update={"spec": spec}))
    await until(lambda: pair.driver._catalogue.endpoint("ep-echo") != record)
    pair.worker.release.set()
    await asyncio.gather(*holding, *tasks)
    assert order == list(range(8))


async def _published(router: Router, n_waiting: int) -> None:
    await until(lambda: waiting(router, "ep-echo") == n_waiting)
    await until(lambda: not router._tickets._unpublished, what="tickets are published")


async def test_a_client_that_left_declines_the_offer(pair: Pair) -> None:
    holding = [asyncio.create_task(pair.text(pair.driver, "/echo/hold")) for _ in range(2)]
    await until(lambda: pair.worker.in_flight == 2)
    gone = asyncio.create_task(pair.text(pair.other, "/echo/hold"))
    await _published(pair.other, 1)
    stays = asyncio.create_task(pair.text(pair.other, "/echo/hold"))
    await _published(pair.other, 2)
    gone.cancel()
    await until(lambda: waiting(pair.other, "ep-echo") == 1)
    pair.worker.release.set()
    assert await stays == "held"
    await asyncio.gather(*holding)
    assert pair.worker.n_requests == 3
    assert pair.ended(pair.other, TicketOutcome.CANCELLED) == 1
    await until(lambda: in_use(pair.driver, "ep-echo") == 0)


async def test_a_client_that_leaves_in_flight_gives_the_borrowed_slot_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "ASK_AGAIN_S", 600.0)  # the driver need not ask
    gone = asyncio.create_task(pair.text(pair.other, "/echo/hold"))
    await until(lambda: pair.worker.in_flight == 1)
    gone.cancel()
    await until(lambda: in_use(pair.driver, "ep-echo") == 0)


async def test_the_driver_hears_of_a_worker_that_took_no_connection(pair: Pair) -> None:
    await pair.worker.stop()
    waits = asyncio.create_task(pair.text(pair.other, "/echo/big?n=3"))
    lane = pair.driver.dispatcher.lanes["ep-echo"]
    await until(lambda: not lane.slots.accepting("wk-1"), what="the driver ejects it")
    await pair.worker.start()
    assert await waits == "xxx"


async def test_tickets_of_a_driver_that_stops_go_to_the_next(pair: Pair) -> None:
    holding = [asyncio.create_task(pair.text(pair.driver, "/echo/hold")) for _ in range(2)]
    await until(lambda: pair.worker.in_flight == 2)
    waits = asyncio.create_task(pair.text(pair.other, "/echo/sleep?s=0"))
    await _published(pair.other, 1)
    await pair.world.assign("ep-echo", "wk-1", "rt-other")
    # The next driver counts the slots that are out, so the ticket waits for one of them.
    await until(lambda: in_use(pair.other, "ep-echo") == 2)
    assert not waits.done()
    pair.worker.release.set()
    assert await waits == "slept"
    await asyncio.gather(*holding)
    assert pair.worker.most_in_flight == 2
