"""What is no HTTP, or too much of it, is refused and its connection closed."""

import asyncio
import socket

import pytest

from tests.support.http_rig import running_rig
from tests.support.http_scene import Scene, fields, problem
from tests.support.raw_worker import raw_client, running_raw_worker

BAD_FRAMING = [
    b"GET /echo/x HTTP/1.1\nHost: h\n\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\nabc",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    b"GET /echo/x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nHost: g\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\n\nGET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
]


@pytest.mark.parametrize("raw", BAD_FRAMING)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_what_cannot_be_framed_is_refused_and_closed(
    scene: Scene, raw: bytes, bytewise: bool
) -> None:
    smuggled = b"GET /echo/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    if bytewise:
        sock = scene.client.writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(raw)):
            scene.client.write(raw[i : i + 1])
            await asyncio.sleep(0)
    scene.client.write(smuggled if bytewise else raw + smuggled)
    answer = await scene.client.ended()
    assert problem(answer)[0] == 400
    assert fields(answer.partition(b"\r\n\r\n")[0], "Connection") == ["close"]
    assert answer.count(b"\r\n\r\n") == 1
    assert scene.worker.n_connections == 0


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (b"GET /" + b"a" * 5000, 414, "target_too_long"),
        (b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "target_too_long"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 1100 + b"\r\n\r\n", 431, "header_too_long"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 17 + b"\r\n", 431, "too_many_headers"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 900, 431, "headers_too_large"),
        (b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505, "version_not_supported"),
    ],
)
async def test_what_is_too_large_says_so(
    scene: Scene, raw: bytes, status: int, reason: str
) -> None:
    scene.client.write(raw)
    assert problem(await scene.client.ended()) == (status, reason)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabcx\r\n",
        b"-3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"3;\nx\r\nabc\r\n",
        b"0\r\nX : y\r\n\r\n",
    ],
)
async def test_a_broken_chunked_body_is_refused_and_closed(scene: Scene, body: bytes) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    worker = await scene.worker.connection()
    await worker.head()
    scene.client.write(body)
    assert problem(await scene.client.ended()) == (400, "bad_request")
    await worker.ended()
    await scene.all_is_given_back()


async def test_the_bounds_of_a_body() -> None:
    async with running_raw_worker() as worker, running_rig(max_body_bytes=10) as rig:
        rig.put_endpoint()
        rig.put_worker(worker.port)
        async with raw_client(rig.port) as client:
            client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
            assert problem(await client.ended()) == (413, "body_too_large")
        async with raw_client(rig.port) as client:
            client.write(
                b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"6\r\nabcdef\r\n5\r\n"
            )
            assert problem(await client.ended()) == (413, "body_too_large")
        assert rig.in_use() == 0
