"""A router among failures: NATS gone and back, a router dead, messages lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio

from penstock_common import subjects
from penstock_common.messages import Grant, HeldLeases, Ticket
from penstock_common.nats.connection import Bus
from penstock_router import liveness
from penstock_router.app import Router
from tests.fakes.router_world import (
    CLOCK,
    World,
    http_client,
    in_use,
    nats_settings,
    running_router,
    running_world,
    until,
    waiting,
)
from tests.support.nats_server import NatsServer
from tests.support.upstream import UpstreamServer, running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]


class Stage:
    """A world with one worker of the endpoint `echo` (1 slot); a test brings the routers."""

    def __init__(
        self, nats: NatsServer, world: World, worker: UpstreamServer, client: aiohttp.ClientSession
    ) -> None:
        self.nats = nats
        self.world = world
        self.worker = worker
        self.client = client

    async def prepare(self, driver: Router, *others: Router) -> None:
        await self.world.put_endpoint(
            "echo", driver, *others, workers={"max_concurrency": 1}, queue={"max_wait_s": 60}
        )
        await self.world.run_worker("ep-echo", "wk-1", self.worker.port, driver)

    async def text(self, router: Router, path: str) -> str:
        async with self.client.get(router.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.text()

    def ask(self, router: Router, path: str = "/echo/sleep?s=0") -> asyncio.Task[str]:
        return asyncio.create_task(self.text(router, path))


@pytest_asyncio.fixture
async def stage(nats_server: NatsServer) -> AsyncIterator[Stage]:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        http_client(total_s=120) as client,
    ):
        yield Stage(nats_server, world, worker, client)


async def test_without_nats_warm_requests_go_on_and_who_waits_is_served_in_order(
    stage: Stage,
) -> None:
    async with running_router(stage.nats.url) as running:
        router = running.router
        await stage.prepare(router)
        stage.nats.kill()
        await until(lambda: not running.bus.connected)
        assert await stage.text(router, "/echo/big?n=3") == "xxx"
        held = stage.ask(router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        order: list[int] = []

        async def come(n: int) -> None:
            await stage.text(router, "/echo/sleep?s=0")
            order.append(n)

        tasks = []
        for n in range(5):
            tasks.append(asyncio.create_task(come(n)))
            await _waits(router, n + 1)
        stage.worker.release.set()
        await asyncio.gather(held, *tasks)
        assert order == list(range(5))
        assert stage.worker.most_in_flight == 1


async def _waits(router: Router, n: int) -> None:
    await until(lambda: waiting(router, "ep-echo") == n)


async def test_who_waited_when_nats_went_is_served_here_at_once(stage: Stage) -> None:
    async with running_router(stage.nats.url) as running:
        router = running.router
        await stage.prepare(router)
        held = stage.ask(router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        waits = stage.ask(router)
        await _waits(router, 1)
        stage.nats.kill()  # and it stays away
        await until(lambda: not running.bus.connected)
        stage.worker.release.set()
        async with asyncio.timeout(60):
            assert tuple(await asyncio.gather(held, waits)) == ("held", "slept")


async def test_tickets_lost_with_the_server_are_published_again(stage: Stage) -> None:
    """The memory stream is gone after a restart; the client at the other router still waits."""
    async with (
        running_router(stage.nats.url, router_id="rt-driver") as driver,
        running_router(stage.nats.url, router_id="rt-other") as other,
    ):
        await stage.prepare(driver.router, other.router)
        held = stage.ask(driver.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        before = stage.ask(other.router)
        await _waits(other.router, 1)
        stage.nats.kill()
        await until(lambda: not other.bus.connected)
        during = stage.ask(other.router)
        await _waits(other.router, 2)
        stage.nats.start()
        await until(lambda: other.bus.connected and driver.bus.connected, timeout_s=60)
        stage.worker.release.set()
        async with asyncio.timeout(60):
            answers = await asyncio.gather(held, before, during)
        assert tuple(answers) == ("held", "slept", "slept")
        await until(lambda: in_use(driver.router, "ep-echo") == 0)
        # The records of routers were lost with the server; nobody takes that for their death.
        await until(lambda: "rt-other" in driver.router._tables.routers)


async def test_a_release_lost_with_the_server_costs_a_delay_not_a_slot(stage: Stage) -> None:
    async with (
        running_router(stage.nats.url, router_id="rt-driver") as driver,
        running_router(stage.nats.url, router_id="rt-other") as other,
    ):
        await stage.prepare(driver.router, other.router)
        held = stage.ask(other.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        stage.nats.kill()
        await until(lambda: not other.bus.connected and not driver.bus.connected)
        stage.worker.release.set()
        assert await held == "held"
        assert in_use(driver.router, "ep-echo") == 1  # nobody could say so
        stage.nats.start()
        await until(lambda: in_use(driver.router, "ep-echo") == 0, timeout_s=60)
        assert await stage.text(other.router, "/echo/sleep?s=0") == "slept"


async def test_a_lease_outlives_a_restart_of_the_server(stage: Stage) -> None:
    async with (
        running_router(stage.nats.url, router_id="rt-driver") as driver,
        running_router(stage.nats.url, router_id="rt-other") as other,
    ):
        await stage.prepare(driver.router, other.router)
        held = stage.ask(other.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        stage.nats.kill()
        await until(lambda: not driver.bus.connected)
        stage.nats.start()
        await until(lambda: driver.bus.connected and other.bus.connected, timeout_s=60)
        waits = stage.ask(driver.router)
        await _waits(driver.router, 1)
        # Longer than three lists take: the lease is in them.
        await asyncio.sleep(4)
        assert stage.worker.most_in_flight == 1
        assert in_use(driver.router, "ep-echo") == 1
        stage.worker.release.set()
        assert tuple(await asyncio.gather(held, waits)) == ("held", "slept")


async def test_leases_of_a_dead_router_come_back(stage: Stage) -> None:
    async with (
        running_router(stage.nats.url, router_id="rt-driver") as driver,
        running_router(stage.nats.url, router_id="rt-other") as other,
    ):
        await stage.prepare(driver.router, other.router)
        held = stage.ask(other.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        await other.vanish()
        with pytest.raises(aiohttp.ClientError):
            await held
        died_at = CLOCK.monotonic()
        # Its lists have stopped, but only its record's end proves it dead.
        assert in_use(driver.router, "ep-echo") == 1
        await until(lambda: in_use(driver.router, "ep-echo") == 0, timeout_s=60)
        assert CLOCK.monotonic() - died_at > liveness.LOST_S / 2
        assert await stage.text(driver.router, "/echo/sleep?s=0") == "slept"


async def test_a_ticket_of_a_dead_router_holds_up_nobody(stage: Stage) -> None:
    async with (
        running_router(stage.nats.url, router_id="rt-driver") as driver,
        running_router(stage.nats.url, router_id="rt-other") as other,
    ):
        await stage.prepare(driver.router, other.router)
        held = stage.ask(driver.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        dead = stage.ask(other.router)
        await _waits(other.router, 1)
        await until(lambda: not other.router._tickets._unpublished)
        alive = stage.ask(driver.router)
        await _waits(driver.router, 1)
        await other.vanish()
        with pytest.raises(aiohttp.ClientError):
            await dead
        stage.worker.release.set()
        async with asyncio.timeout(60):
            assert tuple(await asyncio.gather(held, alive)) == ("held", "slept")
        # Nobody had to find out first that the other is dead.
        assert "rt-other" in driver.router._tables.routers


async def test_an_offer_that_got_no_answer_is_settled_later(stage: Stage) -> None:
    """The origin's answer is lost: the slot stays reserved until the origin says what it holds."""
    async with running_router(stage.nats.url, router_id="rt-driver") as driver:
        await stage.prepare(driver.router)
        asked: list[Grant] = []
        mute = await Bus.connect(nats_settings(stage.nats.url), name="mute", clock=CLOCK)

        async def tell(number: int) -> None:
            held = HeldLeases(
                router_id="rt-mute",
                holder_boot_id="boot-mute",
                lease_ids=(),
                boot_id=asked[0].boot_id,
                number=number,
            )
            await mute.publish(subjects.router_leases("rt-driver"), held.encode())

        try:
            await mute.subscribe(
                subjects.router_grant("rt-mute"),
                lambda message: asked.append(Grant.decode(message.data)),
            )
            ticket = stage_ticket("rt-mute")
            await mute.store(subjects.tickets("ep-echo"), ticket)
            await until(lambda: len(asked) == 1)
            waits = stage.ask(driver.router)
            await _waits(driver.router, 1)
            await until(lambda: len(asked) >= 2, timeout_s=60, what="asked again")
            assert asked[0] == asked[1]
            # A list from before the offer came proves nothing.
            await tell(0)
            for bus in (mute, driver.bus):  # the server has it, then the driver has handled it
                await bus._exchange.echo()
            assert in_use(driver.router, "ep-echo") == 1
            assert not waits.done()
            # One that has seen it and lacks it does; the ticket goes to the next in line.
            await tell(asked[0].number)
            await until(lambda: len({g.slots[0].lease_id for g in asked}) == 2 or waits.done())
        finally:
            await mute.close()
        async with asyncio.timeout(60):
            assert await waits == "slept"


def stage_ticket(router_id: str) -> bytes:
    now = CLOCK.utc()
    return Ticket(
        ticket_id="tk-mute",
        router_id=router_id,
        endpoint_id="ep-echo",
        enqueued_at=now,
        deadline_at=now + timedelta(seconds=60),
    ).encode()


async def test_a_deleted_ticket_stream_stops_nobody_for_long(stage: Stage) -> None:
    async with running_router(stage.nats.url) as running:
        await stage.prepare(running.router)
        held = stage.ask(running.router, "/echo/hold")
        await until(lambda: stage.worker.in_flight == 1)
        waits = stage.ask(running.router)
        await _waits(running.router, 1)
        await stage.world.bus.api(f"STREAM.DELETE.{subjects.TICKETS}", {})
        stage.worker.release.set()
        async with asyncio.timeout(60):
            assert tuple(await asyncio.gather(held, waits)) == ("held", "slept")
