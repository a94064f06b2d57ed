"""Responses by raw bytes: how they are framed for the client, and what is none."""

import pytest

from tests.support.http_scene import GET, OK, Scene, fields, problem


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
