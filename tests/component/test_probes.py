"""Probes against servers that behave well and badly."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_node_agent.runtimes.protocol import Started
from penstock_node_agent.workers.health_answers import Answer, Reply
from penstock_node_agent.workers.probes import (
    ProbeTarget,
    asked,
    readiness_interval,
    speaks_tls,
)
from tests.support.certificates import self_signed
from tests.support.ports import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[Started]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the probe left
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    async with server:
        yield Started("127.0.0.1", server.sockets[0].getsockname()[1])


def saying(*pieces: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return handle


async def probe(
    address: Started, path: str | None = "/health", *, proxied: bool = False, timeout_s: float = 60
) -> Answer:
    async with asked(ProbeTarget(address, path, proxied), timeout_s) as answer:
        return answer


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([OK], Answer(Reply.ANSWERED, 200, listening=True)),
        ([OK[:5], OK[5:11], OK[11:]], Answer(Reply.ANSWERED, 200, listening=True)),
        ([b"HTTP/1.0 200 OK\r\n\r\n"], Answer(Reply.ANSWERED, 200, listening=True)),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], Answer(Reply.ANSWERED, 204, listening=True)),
        ([b"HTTP/1.1 503 Loading\r\n\r\n"], Answer(Reply.ANSWERED, 503, listening=True)),
        ([b"SSH-2.0-OpenSSH_9"], Answer(Reply.NOT_HTTP, listening=True)),
        ([b"HTTP/1.1 yes please"], Answer(Reply.NOT_HTTP, listening=True)),
        ([], Answer(Reply.CLOSED)),
        ([b"HTTP"], Answer(Reply.CLOSED, listening=True)),
    ],
)
async def test_only_a_200_is_healthy(pieces: list[bytes], answer: Answer) -> None:
    async with serving(saying(*pieces)) as address:
        assert await probe(address) == answer
    assert answer.healthy is (answer.status == 200)


async def test_the_request_is_plain_http() -> None:
    lines: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(OK)

    async with serving(handle) as address:
        await probe(address, "/ready?deep=1")

    assert lines[0] == b"GET /ready?deep=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{address.port}".encode() in lines
    assert b"Connection: close" in lines


async def test_nobody_listens() -> None:
    answer = await probe(Started("127.0.0.1", free_port()))
    assert (answer.listening, answer.healthy) == (False, False)
    assert answer.reply is Reply.REFUSED


async def test_a_silent_server_is_waited_for_no_longer_than_the_timeout() -> None:
    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handle) as address, asyncio.timeout(60):
        answer = await probe(address, timeout_s=0.05)

    assert answer == Answer(Reply.TIMED_OUT, waited_s=0.05)


async def test_the_answer_is_known_before_the_body_ends() -> None:
    finished = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-2])
        await finished.wait()
        writer.write(OK[-2:])

    async with serving(handle) as address, asked(ProbeTarget(address, "/health"), 60) as answer:
        assert answer.healthy
        finished.set()


async def test_a_server_that_writes_slowly_finishes_before_the_probe_leaves() -> None:
    broken: list[Exception] = []
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for piece in (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        except OSError as error:
            broken.append(error)
        done.set()

    async with serving(handle) as address:
        assert (await probe(address)).healthy
        await done.wait()

    assert broken == []


async def test_without_a_path_a_connection_is_enough() -> None:
    async with serving(saying()) as address:
        assert (await probe(address, None)).healthy
        assert (await probe(address, None, proxied=True)).healthy


async def test_without_a_path_a_proxy_with_nobody_behind_it_is_not_enough() -> None:
    async def handle(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return  # closes, as a proxy does whose connection onwards is refused

    async with serving(handle) as address:
        assert not (await probe(address, None, proxied=True)).healthy


@given(st.floats(0, 100_000))
def test_probing_delays_a_start_by_at_most_a_hundredth(elapsed_s: float) -> None:
    pause_s = readiness_interval(elapsed_s)
    assert 0.002 <= pause_s <= 0.25
    assert pause_s <= max(0.002, elapsed_s * 0.01 + 1e-9)
    assert elapsed_s > 1 or pause_s <= 0.010 + 1e-9


async def test_a_server_that_speaks_tls_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))

    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody trusts this certificate")

    server = await asyncio.start_server(never, "127.0.0.1", 0, ssl=context)
    async with server:
        address = Started("127.0.0.1", server.sockets[0].getsockname()[1])
        assert await speaks_tls(address, 60)
        answer = await probe(address)
    assert (answer.healthy, answer.is_riddle) == (False, True)

    async with serving(saying(OK)) as plain:
        assert not await speaks_tls(plain, 0.05)
    assert not await speaks_tls(Started("127.0.0.1", free_port()), 60)
