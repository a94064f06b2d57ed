"""Requests by raw bytes: what the router reads and what the worker gets."""

import asyncio

import pytest

from tests.fakes.router_world import until
from tests.support.http_scene import GET, OK, Scene, fields, open_get, problem


async def test_a_response_and_the_next_on_the_same_connections(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    for _ in range(3):
        assert (await worker.head()).startswith(b"GET /x HTTP/1.1\r\nHost: h\r\n")
        worker.write(OK)
        assert (await scene.client.head()).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await scene.client.read(2) == b"ok"
        scene.client.write(GET)
    await worker.head()
    assert scene.worker.n_connections == 1
    worker.write(OK)
    await scene.client.until(b"ok")


async def test_pipelined_requests_are_answered_in_order(scene: Scene) -> None:
    n = 20
    scene.client.write(
        b"".join(b"GET /echo/%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(n))
        + b"GET /unknown/ HTTP/1.1\r\nHost: h\r\n\r\n" * 2
        + b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    worker = await scene.worker.connection()
    for i in range(n):
        assert (await worker.head()).startswith(b"GET /%d " % i)
        worker.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % i)
    for i in range(n):
        await scene.client.head()
        assert await scene.client.read(3) == b"%03d" % i
    left = await scene.client.ended()
    assert left.count(b"HTTP/1.1 404 ") == 2
    assert left.count(b"HTTP/1.1 200 ") == 1


async def test_http_1_0_is_answered_and_closed(scene: Scene) -> None:
    scene.client.write(b"GET /echo/x HTTP/1.0\r\n\r\n")
    worker = await scene.worker.connection()
    assert (await worker.head()).startswith(b"GET /x HTTP/1.1\r\n")
    worker.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    answer = await scene.client.ended()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nabcde")
    assert b"chunked" not in answer.lower()
    assert fields(answer.partition(b"\r\n\r\n")[0], "Connection") == ["close"]


async def test_http_1_0_may_ask_to_go_on(scene: Scene) -> None:
    request = b"GET /echo/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    scene.client.write(request)
    worker = await scene.worker.connection()
    for _ in range(2):
        await worker.head()
        worker.write(OK)
        head = await scene.client.head()
        assert fields(head, "Connection") == ["keep-alive"]
        assert await scene.client.read(2) == b"ok"
        scene.client.write(request)
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")


async def test_chunks_and_trailers_pass_both_ways(scene: Scene) -> None:
    scene.client.write(
        b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"
    )
    worker = await scene.worker.connection()
    head = await worker.head()
    assert fields(head, "Transfer-Encoding") == ["chunked"]
    assert fields(head, "Trailer") == ["X-Sum"]
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert await worker.read(len(body)) == body
    worker.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    head = await scene.client.head()
    assert fields(head, "Transfer-Encoding") == ["chunked"]
    assert await scene.client.read(len(body)) == body


async def test_the_body_is_asked_for_once_there_is_a_slot(scene: Scene) -> None:
    first = [await open_get(scene) for _ in range(2)]
    scene.client.write(
        b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
    )
    await until(lambda: scene.rig.waiting() == 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await scene.client.reader.read(1)
    first[0].abort()
    assert await scene.client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await scene.worker.connection()
    await scene.worker.connection()
    worker = await scene.worker.connection()
    assert fields(await worker.head(), "Expect") == []
    scene.client.write(b"abc")
    assert await worker.read(3) == b"abc"
    worker.write(OK)
    await scene.client.until(b"ok")
    first[1].abort()


async def test_other_expectations_are_refused(scene: Scene) -> None:
    scene.client.write(
        b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: magic\r\n\r\n"
    )
    assert problem(await scene.client.ended()) == (417, "bad_expectation")


async def test_hop_by_hop_fields_pass_in_neither_direction(scene: Scene) -> None:
    scene.client.write(
        b"GET /echo/x HTTP/1.1\r\nHost: h\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: x\r\nProxy-Connection: close\r\nX-Kept: 1\r\n\r\n"
    )
    worker = await scene.worker.connection()
    head = await worker.head()
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line}
    assert names == {b"host", b"x-kept", b"traceparent", b"via", b"x-request-id"} | {
        b"x-forwarded-" + name for name in (b"for", b"host", b"proto")
    }
    worker.write(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Secret\r\nX-Secret: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nX-Penstock-Worker: me\r\nX-Kept: 1\r\n\r\nok"
    )
    head = await scene.client.head()
    assert fields(head, "X-Penstock-Worker") == ["wk-1"]
    assert fields(head, "X-Kept") == ["1"]
    for name in ("Connection", "X-Secret", "Keep-Alive", "Proxy-Authenticate"):
        assert fields(head, name) == []


async def test_an_absolute_target_names_the_host(scene: Scene) -> None:
    scene.client.write(b"GET http://other:1/echo/x?y HTTP/1.1\r\nHost: h\r\n\r\n")
    worker = await scene.worker.connection()
    head = await worker.head()
    assert head.startswith(b"GET /x?y HTTP/1.1\r\n")
    assert fields(head, "Host") == ["other:1"]
    assert fields(head, "X-Forwarded-Host") == ["other:1"]
    worker.write(OK)
    await scene.client.until(b"ok")


@pytest.mark.parametrize(
    "raw",
    [
        b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"CONNECT /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET ftp://h/echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http:///echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://a@b/echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http://a\\b/echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_targets_that_are_no_path(scene: Scene, raw: bytes) -> None:
    scene.client.write(raw)
    head = await scene.client.head()
    body = await scene.client.read(int(fields(head, "Content-Length")[0]))
    assert problem(head + body) == (400, "bad_target")
    assert scene.worker.n_connections == 0


async def test_an_empty_line_before_a_request_is_passed_over(scene: Scene) -> None:
    scene.client.write(b"\r\n\r")
    scene.client.write(b"\n" + GET)
    worker = await scene.worker.connection()
    assert (await worker.head()).startswith(b"GET /x ")
    worker.write(OK)
    await scene.client.until(b"ok")


async def test_a_refused_request_whose_body_is_here_leaves_the_connection_open(
    scene: Scene,
) -> None:
    refused = b"POST /unknown/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nGET"
    scene.client.write(refused + GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    answer = await scene.client.until(b"ok")
    assert problem(answer) == (404, "unknown_endpoint")


async def test_a_refused_upload_is_answered_before_it_ends(scene: Scene) -> None:
    scene.client.write(
        b"POST /unknown/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000
    )
    head = await scene.client.head()
    assert fields(head, "Connection") == ["close"]
    scene.client.write(b"x" * 300_000)
    rest = await scene.client.ended()
    assert problem(head + rest) == (404, "unknown_endpoint")
