"""What passes through a router, and how."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.fakes.router_world import (
    CLOCK,
    in_use,
    until,
)
from tests.support.router_scene import Scene, fields

pytestmark = pytest.mark.nats


async def test_passes_a_request_and_says_who_served_it(scene: Scene) -> None:
    began = CLOCK.monotonic()
    async with scene.client.post(
        scene.url("/echo/echo/a%2Fb?q=%20x&y"), data=b"hello", headers={"X-Mine": "1"}
    ) as response:
        took_s = CLOCK.monotonic() - began
        body = await response.json()
        assert response.status == 200
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers["X-Penstock-Worker"] == "wk-1"
        assert response.headers["X-Penstock-Cold-Start"] == "0"
        assert 0 <= int(response.headers["X-Penstock-Queue-Ms"]) <= took_s * 1000
        assert response.headers["X-Request-Id"]
    assert body["method"] == "POST"
    assert body["target"] == "/echo/a%2Fb?q=%20x&y"
    assert body["body"] == "hello"
    assert fields(body, "X-Mine") == ["1"]
    assert fields(body, "X-Forwarded-For") == ["127.0.0.1"]
    assert fields(body, "Content-Length") == ["5"]
    assert fields(body, "Connection") in ([], ["keep-alive"])


async def test_an_endpoint_has_a_host_too(scene: Scene) -> None:
    body = await scene.json("/echo/x", headers={"Host": "echo.ex.com"})
    assert body["target"] == "/echo/x"
    assert fields(body, "Host") == ["echo.ex.com"]


async def test_adds_no_header_that_the_client_did_not_send(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
    writer.write(
        b"GET /echo/echo HTTP/1.1\r\nHost: h\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n"
    )
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert sorted(name.lower() for name, _ in body["headers"]) == [
        "host",
        "traceparent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ]


async def test_streams_events_as_they_come(scene: Scene) -> None:
    async with scene.client.get(scene.url("/echo/events?n=3")) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        for i in range(3):
            scene.worker.step.release()
            async with asyncio.timeout(60):
                piece = await response.content.readuntil(b"\n\n")
            assert piece == f"data: {i}\n\n".encode()
        assert await response.content.read() == b""


async def test_streams_large_bodies_both_ways(scene: Scene) -> None:
    piece = b"0123456789abcdef" * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(512):
            yield piece

    counted = await scene.json("/echo/count", "POST", data=pieces())
    assert counted["n_bytes"] == 512 * len(piece)
    assert counted["sha256"] == hashlib.sha256(piece * 512).hexdigest()
    async with scene.client.get(scene.url("/echo/big?n=30000000")) as response:
        assert response.headers["Content-Length"] == "30000000"
        assert len(await response.read()) == 30_000_000


async def test_leaves_encoded_bodies_as_they_are(scene: Scene) -> None:
    packed = gzip.compress(b"hello" * 1000)
    counted = await scene.json(
        "/echo/count", "POST", data=packed, headers={"Content-Encoding": "gzip"}
    )
    assert counted["sha256"] == hashlib.sha256(packed).hexdigest()


async def test_a_slow_reader_holds_the_worker_back(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.url("/").port or 0, limit=1024
    )
    writer.write(b"GET /echo/pour HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    poured = -1
    async with asyncio.timeout(60):
        while poured != scene.worker.poured_bytes:
            poured = scene.worker.poured_bytes
            await asyncio.sleep(0.2)  # long enough for megabytes, if nothing held them back
    assert poured < 32_000_000  # what sockets and buffers on the way hold
    writer.transport.abort()
    await until(lambda: in_use(scene.router, "ep-echo") == 0, what="the slot is free again")


async def test_head_has_the_length_but_no_body(scene: Scene) -> None:
    async with scene.client.head(scene.url("/echo/big?n=1000")) as response:
        assert response.headers["Content-Length"] == "1000"
        assert await response.read() == b""


async def test_asks_for_the_body_only_when_somebody_takes_it(scene: Scene) -> None:
    body = await scene.json("/echo/echo", "POST", data=b"hello", expect100=True)
    assert body["body"] == "hello"
    assert fields(body, "Expect") == []


async def test_keeps_a_clients_connection_open(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
    for _ in range(3):
        writer.write(b"GET /echo/big?n=3 HTTP/1.1\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(3) == b"xxx"
    writer.close()
