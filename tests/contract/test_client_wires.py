"""What moves the bytes of the client, with an event loop and without: one suite for both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest

from penstock_client import wire_async, wire_sync
from penstock_client.wire import (
    BadAddressError,
    ClosedError,
    Reply,
    Request,
    TooSlowError,
    WireError,
)


class Site:
    """A server that answers each path in a way of its own, and counts connections."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []
        #: set = `/chunks` may go on
        self.continued = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept for as many requests as come."""
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may go on to another request."""
        path, body = await self._request(reader)
        match path:
            case "/echo":
                writer.write(
                    b"HTTP/1.1 201 Created\r\nX-Name: V\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
            case "/moved":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n")
            case "/chunks":
                await self._chunks(writer)
            case "/broken":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
                await writer.drain()
                writer.transport.abort()
                return False
            case "/cut":
                writer.transport.abort()
                return False
            case "/dribble":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while True:
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "/silence":
                await asyncio.Event().wait()
            case _:
                raise AssertionError(f"no such path: {path}")
        await writer.drain()
        return True

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        body = await reader.readexactly(length)
        self.requests.append(head + body)
        return head.split(b" ")[1].decode(), body

    async def _chunks(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await writer.drain()
        # The rest comes when the client has shown that it has the beginning.
        await self.continued.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")


class Mover(Protocol):
    """Either wire, as this suite drives it."""

    async def fetch(self, request: Request, timeout_s: float) -> Reply: ...

    async def first_part(self, request: Request, then: Callable[[], None]) -> tuple[bytes, bytes]:
        """The first bytes that come, and, after `then`, all others."""
        ...

    async def leave(self, request: Request) -> bytes:
        """The first bytes; the rest is not read."""
        ...

    async def close(self) -> None: ...


class WithLoop:
    def __init__(self) -> None:
        self._wire = wire_async.Wire()

    async def fetch(self, request: Request, timeout_s: float) -> Reply:
        return await self._wire.fetch(request, timeout_s=timeout_s)

    async def first_part(self, request: Request, then: Callable[[], None]) -> tuple[bytes, bytes]:
        async with self._wire.exchange(request, silence_s=60) as answer:
            first = await answer.read_some()
            then()
            return first, await answer.read()

    async def leave(self, request: Request) -> bytes:
        async with self._wire.exchange(request, silence_s=60) as answer:
            return await answer.read_some()

    async def close(self) -> None:
        await self._wire.close()


class WithoutLoop:
    def __init__(self) -> None:
        self._wire = wire_sync.Wire()

    async def fetch(self, request: Request, timeout_s: float) -> Reply:
        return await asyncio.to_thread(self._wire.fetch, request, timeout_s=timeout_s)

    async def first_part(self, request: Request, then: Callable[[], None]) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()

        def work() -> tuple[bytes, bytes]:
            with self._wire.exchange(request, silence_s=60) as answer:
                first = answer.read_some()
                loop.call_soon_threadsafe(then)
                return first, answer.read()

        return await asyncio.to_thread(work)

    async def leave(self, request: Request) -> bytes:
        def work() -> bytes:
            with self._wire.exchange(request, silence_s=60) as answer:
                return answer.read_some()

        return await asyncio.to_thread(work)

    async def close(self) -> None:
        self._wire.close()


@pytest.fixture(params=[WithLoop, WithoutLoop])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Mover]:
    mover: Mover = request.param()
    yield mover
    await mover.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    server_side = Site()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(server_side.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    server_side.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield server_side
    server.close()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def get(url: str) -> Request:
    return Request("GET", url)


async def failure(asked: Awaitable[object]) -> WireError:
    with pytest.raises(WireError) as caught:
        await asked
    return caught.value


async def test_what_is_sent_comes_and_what_comes_is_given(wire: Mover, site: Site) -> None:
    body = bytes(range(256)) * 40
    asked = Request("POST", f"{site.url}/echo", {"X-Mine": "1"}, body)
    reply = await wire.fetch(asked, 60)
    assert (reply.status, reply.headers["x-name"], reply.body) == (201, "V", body)
    assert b"\r\nX-Mine: 1\r\n" in site.requests[0]


async def test_a_connection_is_kept_for_the_next_request(wire: Mover, site: Site) -> None:
    for _ in range(3):
        await wire.fetch(get(f"{site.url}/echo"), 60)
    assert (len(site.requests), site.connections) == (3, 1)


async def test_a_redirection_is_an_answer(wire: Mover, site: Site) -> None:
    reply = await wire.fetch(get(f"{site.url}/moved"), 60)
    assert (reply.status, reply.headers["location"], len(site.requests)) == (302, "/echo", 1)


async def test_bytes_are_given_when_they_come(wire: Mover, site: Site) -> None:
    asked = get(f"{site.url}/chunks")
    assert await wire.first_part(asked, site.continued.set) == (b"one", b"two")


async def test_an_answer_that_is_left_does_not_spoil_the_next(wire: Mover, site: Site) -> None:
    assert await wire.leave(get(f"{site.url}/chunks")) == b"one"
    assert (await wire.fetch(get(f"{site.url}/echo"), 60)).status == 201


async def test_it_is_told_whether_the_other_side_may_have_seen_it(wire: Mover, site: Site) -> None:
    assert (await failure(wire.fetch(get(f"{site.url}/cut"), 60))).sent
    assert (await failure(wire.fetch(get(f"{site.url}/broken"), 60))).sent
    assert not (await failure(wire.fetch(get("http://127.0.0.1:1/echo"), 60))).sent
    assert len(site.requests) == 2  # neither was sent twice


@pytest.mark.parametrize("path", ["silence", "dribble"])
async def test_what_takes_too_long_is_given_up(wire: Mover, site: Site, path: str) -> None:
    # Over a connection that stands: what takes the time is the answer, not the way there.
    await wire.fetch(get(f"{site.url}/echo"), 60)
    error = await failure(wire.fetch(get(f"{site.url}/{path}"), 0.5))
    assert isinstance(error, TooSlowError)
    assert error.sent


@pytest.mark.parametrize("url", ["http://[nonsense/", "127.0.0.1:80/", "ftp://127.0.0.1/", ""])
async def test_what_is_no_address_is_told(wire: Mover, url: str) -> None:
    assert isinstance(await failure(wire.fetch(get(url), 60)), BadAddressError)


async def test_it_is_not_used_after_its_end(wire: Mover, site: Site) -> None:
    await wire.fetch(get(f"{site.url}/echo"), 60)
    await wire.close()
    await wire.close()
    with pytest.raises(ClosedError, match="make another"):
        await wire.fetch(get(f"{site.url}/echo"), 60)
