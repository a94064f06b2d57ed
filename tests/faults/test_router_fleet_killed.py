"""Three router processes under load, one of them killed, another one added."""

import asyncio
import collections
import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from penstock_common import subjects
from penstock_common.nats.kv import Bucket
from tests.fakes.router_world import World, http_client, running_world, until
from tests.support.nats_server import NatsServer
from tests.support.router_process import Process, router_process
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]

N_CLIENTS = 300
N_SLOTS = 3


class Clients:
    """Each asks its router again and again until told to stop, and keeps what became of it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.stopping = False
        self.answers: collections.Counter[tuple[str, object]] = collections.Counter()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, url: str, count: int) -> None:
        self.tasks += [asyncio.create_task(self._ask(name, url)) for _ in range(count)]

    async def _ask(self, name: str, url: str) -> None:
        while not self.stopping:
            try:
                async with self._session.get(f"{url}/echo/sleep?s=0.05") as response:
                    self.answers[name, response.status] += 1
                    await response.read()
            except aiohttp.ClientError as error:
                self.answers[name, type(error).__name__] += 1
                return

    async def served(self, more: int, *names: str) -> None:
        """Wait until each of these routers has answered so many more requests."""
        for name in names:
            goal = self.answers[name, 200] + more
            await until(partial(self._reached, name, goal), timeout_s=60)

    def _reached(self, name: str, goal: int) -> bool:
        return self.answers[name, 200] >= goal

    async def stop(self) -> dict[tuple[str, object], int]:
        """Let every request end; gives what was no success."""
        self.stopping = True
        async with asyncio.timeout(90):
            await asyncio.gather(*self.tasks)
        return {key: n for key, n in self.answers.items() if key[1] != 200}


async def expired(world: World, router_id: str) -> None:
    """Wait until the router's record is gone: then a scheduler takes it for lost."""
    routers = Bucket(world.bus, subjects.ROUTERS)
    async with asyncio.timeout(60):
        while await routers.get(router_id) is not None:  # noqa: ASYNC110  # a plain read
            await asyncio.sleep(0.1)


async def test_slots_hold_and_nobody_else_fails_when_a_router_is_killed_and_one_comes(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(running_world(nats_server.url))
        workers = [await stack.enter_async_context(running_upstream()) for _ in range(2)]
        session = await stack.enter_async_context(http_client(total_s=120))
        urls: dict[str, str] = {}

        async def start(router_id: str) -> Process:
            process = await stack.enter_async_context(
                router_process(tmp_path, nats_url=nats_server.url, port="0", router_id=router_id)
            )
            urls[router_id] = (await process.ready())["X_URL"]
            return process

        processes = {name: await start(name) for name in ("rt-1", "rt-2", "rt-3")}
        endpoint_id = await world.put_endpoint(
            "echo",
            workers={"max_concurrency": N_SLOTS},
            queue={"max_wait_s": 60, "max_waiting": 1000},
        )
        for number, worker in enumerate(workers, 1):
            await world.assign(endpoint_id, f"wk-{number}", f"rt-{number}")
            await world.put_worker_status(f"wk-{number}", worker.port)

        clients = Clients(session)
        for name in processes:
            clients.start(name, urls[name], N_CLIENTS // 3)

        await clients.served(30, *processes)
        processes["rt-1"].process.send_signal(signal.SIGKILL)
        await start("rt-4")
        clients.start("rt-4", urls["rt-4"], N_CLIENTS // 3)
        living = ("rt-2", "rt-3", "rt-4")
        await clients.served(30, *living)
        await expired(world, "rt-1")
        before = workers[0].n_requests
        await world.assign(endpoint_id, "wk-1", "rt-4")
        await until(lambda: workers[0].n_requests >= before + 50, timeout_s=60)
        await clients.served(60, *living)
        failed = await clients.stop()
        assert {name for name, _ in failed} <= {"rt-1"}, failed
        assert sum(failed.values()) <= N_CLIENTS // 3
        assert [worker.most_in_flight for worker in workers] == [N_SLOTS, N_SLOTS]
