"""A router that may open no more files: it frees what it can, says so, and blames no worker."""

import asyncio
import resource
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.router_world import running_world, until
from tests.support.nats_server import NatsServer
from tests.support.router_process import router_process
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]


def limit(pid: int, files: int) -> None:
    """Let a process open no file with this number or a higher one."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, hard))


def open_files(pid: int) -> set[int]:
    """The numbers of the files that a process has open."""
    return {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}


async def first_free(stack: AsyncExitStack, pid: int, port: int) -> int:
    """The lowest number of a file above which none is open: what is free below is taken first."""
    while len(found := open_files(pid)) <= max(found):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        stack.callback(writer.close)
        await until(lambda found=found: len(open_files(pid)) > len(found))  # type: ignore[misc]
    return len(found)


async def test_a_router_without_files_closes_idle_connections_then_answers_503(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(running_world(nats_server.url))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        router = await stack.enter_async_context(
            router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1")
        )
        workers = [await stack.enter_async_context(running_upstream()) for _ in range(2)]
        url = (await router.ready())["X_URL"]
        pid, port = router.process.pid, int(url.rsplit(":", 1)[1])
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 1_048_576), "it takes what it may have"
        for n, worker in enumerate(workers):
            endpoint_id = await world.put_endpoint(f"app{n}", workers={"max_concurrency": 2})
            await world.assign(endpoint_id, f"wk-{n}", "rt-1")
            await world.put_worker_status(f"wk-{n}", worker.port)
            await until(partial(world.last_report, "rt-1", endpoint_id))

        async def ask(path: str) -> tuple[int, str]:
            async with client.get(url + path) as response:
                return response.status, await response.text()

        assert (await ask("/app0/echo"))[0] == 200
        # Its connection to the first worker is idle now: the second one's takes its place.
        limit(pid, await first_free(stack, pid, port))
        assert (await ask("/app1/echo"))[0] == 200

        # The client's first connection, and the one to the second worker, are busy now.
        held = asyncio.create_task(ask("/app1/hold"))
        await until(lambda: workers[1].in_flight == 1)
        limit(pid, await first_free(stack, pid, port) + 1)
        status, body = await ask("/app0/echo")
        assert (status, "router_overloaded" in body) == (503, True), body

        limit(pid, soft)
        assert (await ask("/app0/echo"))[0] == 200
        workers[1].release.set()
        assert await held == (200, "held")
        assert await router.stop() == 0
