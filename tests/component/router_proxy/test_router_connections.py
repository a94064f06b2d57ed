"""More connections of clients than the router takes."""

import asyncio

import pytest

from tests.fakes.router_world import running_router, running_world
from tests.support.nats_server import NatsServer
from tests.support.upstream import running_upstream

pytestmark = pytest.mark.nats

REQUEST = b"GET /echo/echo HTTP/1.1\r\nHost: h\r\n\r\n"


class Caller:
    """A connection that stays open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self) -> tuple[str, bytes]:
        """Head and body of an answer."""
        self._writer.write(REQUEST)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        return head, await self._reader.readexactly(length)

    async def closed(self) -> bool:
        """Wait until the router has closed it."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def test_a_client_too_many_is_told_so_and_the_others_are_served(
    nats_server: NatsServer,
) -> None:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        running_router(nats_server.url, max_connections=2) as running,
        asyncio.timeout(60),
    ):
        endpoint_id = await world.put_endpoint("echo", running.router)
        await world.run_worker(endpoint_id, "wk-1", worker.port, running.router)
        port = int(running.router.url.rsplit(":", 1)[1])
        first, second = [await Caller.connect(port) for _ in range(2)]
        for caller in (first, second, first):
            assert (await caller.ask())[0].startswith("http/1.1 200")

        third = await Caller.connect(port)
        head, body = await third.ask()
        assert head.startswith("http/1.1 503")
        assert "retry-after: 1" in head
        assert "connection: close" in head
        assert b'"reason": "too_many_connections"' in body
        assert await third.closed()
        await third.close()

        assert (await first.ask())[0].startswith("http/1.1 200")
        await first.close()
        while True:  # until the router has seen that it is gone
            fourth = await Caller.connect(port)
            head, _ = await fourth.ask()
            await fourth.close()
            if head.startswith("http/1.1 200"):
                break
            assert head.startswith("http/1.1 503")
        await second.close()
