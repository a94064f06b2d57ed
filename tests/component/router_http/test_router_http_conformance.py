"""HTTP as the router speaks it, by raw bytes on both sides."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.router_world import until
from tests.support.http_rig import HttpRig, running_rig
from tests.support.raw_worker import RawClient, RawWorker, raw_client, running_raw_worker

GET = b"GET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scene:
    """A rig, its one worker (2 slots), and a client."""

    def __init__(self, rig: HttpRig, worker: RawWorker, client: RawClient) -> None:
        self.rig = rig
        self.worker = worker
        self.client = client

    async def all_is_given_back(self) -> None:
        await until(lambda: self.rig.in_use() == 0 and self.rig.server.in_flight == 0)


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with (
        running_raw_worker() as worker,
        running_rig(max_line_bytes=1024, max_head_bytes=4096, max_headers=16) as rig,
        raw_client(rig.port) as client,
    ):
        rig.put_endpoint(workers={"max_concurrency": 2, "request_timeout_s": 5})
        rig.put_worker(worker.port)
        yield Scene(rig, worker, client)
        await client_leaves(client)
        await until(lambda: rig.in_use() == 0, what="every slot is free at the end")
        assert rig.server.in_flight == 0


async def client_leaves(client: RawClient) -> None:
    client.abort()
    await asyncio.sleep(0)


def fields(head: bytes, name: str) -> list[str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = [line.partition(":") for line in lines if line]
    return [value.strip() for n, _, value in pairs if n.lower() == name.lower()]


def problem(answer: bytes) -> tuple[int, str]:
    """(status, reason) of the first response in these bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert fields(head, "Content-Type") == ["application/problem+json"], answer
    length = int(fields(head, "Content-Length")[0])
    read = json.loads(body[:length])
    assert int(head.split(b" ")[1]) == read["status"]
    return read["status"], read["reason"]


# ---- requests


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
        await asyncio.wait_for(scene.client.reader.read(1), 0.05)
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


async def open_get(scene: Scene) -> RawClient:
    """Another client whose request is at the worker."""
    before = scene.rig.in_use()
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.rig.port)
    writer.write(GET)
    await until(lambda: scene.rig.in_use() == before + 1)
    return RawClient(reader, writer)


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


# ---- responses


async def test_head_and_bodiless_statuses_have_no_body(scene: Scene) -> None:
    worker = None
    for method, response, length in (
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", ["99"]),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", ["99"]),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []),
    ):
        scene.client.write(method + b" /echo/x HTTP/1.1\r\nHost: h\r\n\r\n")
        worker = worker or await scene.worker.connection()
        await worker.head()
        worker.write(response)
        head = await scene.client.head()
        assert fields(head, "Content-Length") == length
        assert fields(head, "Transfer-Encoding") == []
    assert scene.worker.n_connections == 1


async def test_a_body_until_the_end_of_the_connection_becomes_chunks(scene: Scene) -> None:
    scene.client.write(GET + GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert fields(await scene.client.head(), "Transfer-Encoding") == ["chunked"]
    assert await scene.client.until(b"abc\r\n") == b"3\r\nabc\r\n"
    worker.write(b"de")
    worker.close()
    assert await scene.client.until(b"0\r\n\r\n") == b"2\r\nde\r\n0\r\n\r\n"
    second = await scene.worker.connection()
    await second.head()
    second.write(OK)
    await scene.client.until(b"ok")


async def test_interim_responses_pass_but_not_to_http_1_0(scene: Scene) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n"
    scene.client.write(GET + b"GET /echo/x HTTP/1.0\r\n\r\n")
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + OK)
    first = await scene.client.until(b"ok")
    assert first.count(b"HTTP/1.1 ") == 2
    assert first.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 penstock\r\n\r\n")
    await worker.head()
    worker.write(hints + OK)
    assert (await scene.client.ended()).count(b"HTTP/1.1 ") == 1


async def test_a_response_may_come_before_the_upload_ends(scene: Scene) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
    head = await scene.client.head()
    assert head.startswith(b"HTTP/1.1 413 Too Much\r\n")
    assert fields(head, "Connection") == ["close"]
    scene.client.write(b"x" * 200_000)
    assert await scene.client.ended() == b"no"
    await worker.ended()
    await scene.all_is_given_back()


async def test_both_may_stream_at_once(scene: Scene) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await scene.client.head()
    for i in range(5):
        chunk = b"1\r\n%d\r\n" % i
        scene.client.write(chunk)
        assert await worker.read(len(chunk)) == chunk
        worker.write(chunk)
        assert await scene.client.read(len(chunk)) == chunk
    scene.client.write(b"0\r\n\r\n")
    assert await worker.read(5) == b"0\r\n\r\n"
    worker.write(b"0\r\n\r\n")
    assert await scene.client.ended() == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "response",
    [
        b"what\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX-Bad\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 5000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20,
    ],
)
async def test_a_worker_that_answers_nonsense_is_a_502(scene: Scene, response: bytes) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\n\r\n")
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(response)
    assert b"\r\n\r\n" in response or len(response) > 4096
    answer = b""
    while b"HTTP/1.1 502" not in answer:
        answer = await scene.client.head()
    answer += await scene.client.read(int(fields(answer, "Content-Length")[0]))
    assert problem(answer) == (502, "worker_disconnected")
    await worker.ended()
    await scene.all_is_given_back()


async def test_bytes_behind_a_response_never_answer_the_next_request(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await scene.client.until(b"ok")
    scene.client.write(GET)
    second = await scene.worker.connection()
    await second.head()
    second.write(OK)
    assert b"evil" not in await scene.client.until(b"ok")


async def test_bytes_on_an_idle_connection_end_it(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")
    worker.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    await worker.ended()
    scene.client.write(GET)
    second = await scene.worker.connection()
    await second.head()
    second.write(OK)
    await scene.client.until(b"ok")


# ---- connections that end


async def test_a_request_that_meets_a_closing_connection_is_sent_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")
    scene.client.write(b"PUT /echo/y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    await worker.head()
    worker.abort()
    second = await scene.worker.connection()
    assert (await second.head()).startswith(b"PUT /y ")
    assert await second.read(3) == b"abc"
    second.write(OK)
    await scene.client.until(b"ok")


async def test_a_post_that_meets_a_closing_connection_is_not_sent_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")
    scene.client.write(b"POST /echo/y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    await worker.head()
    worker.abort()
    head = await scene.client.head()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert scene.worker.n_connections == 1


async def test_half_a_response_head_is_not_tried_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 2")
    await asyncio.sleep(0.05)
    worker.close()
    assert (await scene.client.head()).startswith(b"HTTP/1.1 502 ")
    assert scene.worker.n_connections == 1


async def test_half_a_body_is_cut(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await scene.client.until(b"abc\r\n")
    worker.close()
    assert (await scene.client.ended()) in (b"(cut)", b"")
    await scene.all_is_given_back()


@pytest.mark.parametrize("how", ["abort", "close", "reset", "fin"])
async def test_a_client_that_leaves_frees_the_slot_and_the_worker(scene: Scene, how: str) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    match how:
        case "abort":
            scene.client.abort()
        case "close":
            scene.client.writer.close()
        case "reset":
            scene.client.reset()
        case _:
            scene.client.writer.write_eof()
    assert await worker.ended() == b""
    await scene.all_is_given_back()


async def test_a_client_that_leaves_within_its_upload_frees_the_slot(scene: Scene) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    worker = await scene.worker.connection()
    await worker.head()
    scene.client.writer.write_eof()
    assert await worker.ended() in (b"abc", b"")
    await scene.all_is_given_back()


async def test_a_client_that_leaves_while_it_waits_frees_its_place(scene: Scene) -> None:
    held = [await open_get(scene) for _ in range(2)]
    # So much of a body that the router does not read on: it looks for the end by itself.
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
    scene.client.write(b"x" * 100_000)
    await until(lambda: scene.rig.waiting() == 1)
    scene.client.writer.close()
    await until(lambda: scene.rig.waiting() == 0)
    for each in held:
        each.abort()
    await scene.all_is_given_back()


async def test_a_half_closed_client_may_be_served() -> None:
    async with (
        running_raw_worker() as worker,
        running_rig(serve_half_closed=True) as rig,
        raw_client(rig.port) as client,
    ):
        rig.put_endpoint()
        rig.put_worker(worker.port)
        client.write(GET)
        client.writer.write_eof()
        connection = await worker.connection()
        await connection.head()
        await asyncio.sleep(0.05)
        connection.write(OK)
        assert (await client.ended()).endswith(b"ok")
        assert rig.in_use() == 0


# ---- tunnels


UPGRADE = (
    b"GET /echo/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def test_a_tunnel_passes_bytes_both_ways_and_each_end_by_itself(scene: Scene) -> None:
    scene.client.write(UPGRADE + b"early")
    worker = await scene.worker.connection()
    head = await worker.head()
    assert fields(head, "Upgrade") == ["websocket"]
    assert fields(head, "Connection") == ["Upgrade"]
    worker.write(SWITCH + b"hello")
    head = await scene.client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert fields(head, "Sec-WebSocket-Accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    assert await scene.client.read(5) == b"hello"
    assert await worker.read(5) == b"early"
    frame = bytes([0x82, 0x83, 1, 2, 3, 4]) + bytes([ord("a") ^ 1, ord("b") ^ 2, ord("c") ^ 3])
    scene.client.write(frame)
    assert await worker.read(len(frame)) == frame
    worker.write(b"\x82\x03abc")
    assert await scene.client.read(5) == b"\x82\x03abc"
    scene.client.writer.write_eof()
    assert await worker.ended() == b""
    assert scene.rig.in_use() == 1
    worker.write(b"bye")
    worker.close()
    assert await scene.client.ended() == b"bye"
    await scene.all_is_given_back()


@pytest.mark.parametrize("side", ["client", "worker"])
async def test_a_tunnel_that_breaks_on_one_side_breaks_on_the_other(
    scene: Scene, side: str
) -> None:
    scene.client.write(UPGRADE)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(SWITCH)
    await scene.client.head()
    if side == "client":
        scene.client.reset()
        await worker.ended()
    else:
        worker.reset()
        await scene.client.ended()
    await scene.all_is_given_back()


async def test_a_worker_that_does_not_change_protocols_answers_as_ever(scene: Scene) -> None:
    scene.client.write(UPGRADE + GET)
    worker = await scene.worker.connection()
    for _ in range(2):
        await worker.head()
        worker.write(OK)
        await scene.client.until(b"ok")


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
