"""Ideas of published smuggling corpora: two readers must never see two different messages.

Each message is followed by a request that must not reach the worker as one of its own.
"""

import asyncio

import pytest

from tests.support.http_scene import OK, Scene, fields, problem

SMUGGLED = b"GET /echo/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /echo/x HTTP/1.1\r\nHost: h\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

FRAMING = [
    # CL.TE and TE.CL
    POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nG",
    POST + CHUNKED + b"Content-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n",
    POST + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    # TE.TE
    POST + CHUNKED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n",
    POST + CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
    *(
        POST + b"Transfer-Encoding:" + value + b"\r\n\r\n0\r\n\r\n"
        for value in (
            b" xchunked",
            b" chunkedx",
            b" chunked;q=1",
            b" chunked, identity",
            b" identity, chunked",
            b" chunked, chunked",
            b" chunked,",
            b" ,chunked",
            b' "chunked"',
            b" cow",
            b" \x0bchunked",
            b" \x0cchunked",
            b" chunked\x00",
            b" chun\xa0ked",
            b" \xa0chunked",
            b"",
        )
    ),
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    POST + b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding:\n chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # Content-Length
    *(
        POST + b"Content-Length:" + value + b"\r\n\r\nabcde"
        for value in (
            b" +5",
            b" -5",
            b" 0x5",
            b" 5,5",
            b" 5, 5",
            b" 5 5",
            b" 5.0",
            b" 5e0",
            b" 5_0",
            b" 5;",
            b' "5"',
            b" \xb25",
            b" 5\x00",
            b" \x0b5",
            b" 99999999999999999999",
            b"",
        )
    ),
    POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    POST + b"Content-Length: 5\r\ncontent-length: 6\r\n\r\nabcde",
    POST + b"Content-Length : 5\r\n\r\nabcde",
    POST + b"Content-Length: 5\r\n 5\r\n\r\nabcde",
    POST + b"Content_Length\x00: 5\r\n\r\nabcde",
]
HEADS = [
    b"GET /echo/x\r\n",  # HTTP/0.9
    b"GET /echo/x HTTP/1.10\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP/01.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP/1.1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x http/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP /1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP/1.1 \r\nHost: h\r\n\r\n",
    b"GET  /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x  HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET\t/echo/x\tHTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x\tHTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET\x0b/echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b" GET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"G\x00ET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET: /echo/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/\x00x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x#a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nhost: g\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost : h\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h/path\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: user@h\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h g\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h?x\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\\g\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nX(Y: 1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nX\xa0: 1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\n: 1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\n Host: h\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\r\nHost: h\r\n\r\n",
]


@pytest.mark.parametrize("raw", FRAMING + HEADS)
async def test_what_two_could_read_in_two_ways_reaches_no_worker(scene: Scene, raw: bytes) -> None:
    scene.client.write(raw + SMUGGLED)
    answer = await scene.client.ended()
    assert problem(answer)[0] == 400
    assert fields(answer.partition(b"\r\n\r\n")[0], "Connection") == ["close"]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert scene.worker.n_connections == 0


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"\t1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"+1\r\na\r\n",
        b"1_0\r\na\r\n",
        b"\x001\r\na\r\n",
        b"\x0b1\r\na\r\n",
        b"\xb21\r\na\r\n",
        b"1,1\r\na\r\n",
        b"1\na\r\n",
        b"1\ra\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;\x00\r\na\r\n",
        b"1\r\na",
        b"1\r\na0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\na\r0\r\n\r\n",
        b"1\r\na\rX",
        b"10000000000000000\r\na\r\n",
        b"fffffffffffffffff\r\na\r\n",
        b"0\r\nContent-Length : 3\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"0\r\nGET /echo/y HTTP/1.1\r\n\r\n",
        b"0\nX: y\r\n\r\n",
        b"0\r\n\rX",
    ],
)
async def test_a_chunked_body_that_two_could_read_in_two_ways(scene: Scene, body: bytes) -> None:
    scene.client.write(POST + CHUNKED + b"\r\n" + body + SMUGGLED)
    answer = await scene.client.ended()
    assert problem(answer) == (400, "bad_request")
    assert answer.count(b"HTTP/1.1 ") == 1
    # What was sent of it is no whole request: the worker sees the connection break.
    for _ in range(scene.worker.n_connections):
        assert not (await (await scene.worker.connection()).ended()).endswith(b"0\r\n\r\n")
    await scene.all_is_given_back()


@pytest.mark.parametrize(
    ("body", "passed"),
    [
        (b'5;a=b;c="d"\r\nhello\r\n0\r\n\r\n', b"5\r\nhello\r\n0\r\n\r\n"),
        (b"00005\r\nhello\r\n000\r\n\r\n", b"00005\r\nhello\r\n000\r\n\r\n"),
        (b"5\r\nG\r\n\r\n\r\n0;x\r\n\r\n", b"5\r\nG\r\n\r\n\r\n0\r\n\r\n"),
        (b"0\r\nTransfer-Encoding: x\r\nA: b\r\n\r\n", b"0\r\nA: b\r\n\r\n"),
    ],
)
async def test_what_is_odd_but_clear_passes_clear(scene: Scene, body: bytes, passed: bytes) -> None:
    scene.client.write(POST + CHUNKED + b"\r\n" + body + SMUGGLED)
    worker = await scene.worker.connection()
    assert fields(await worker.head(), "Content-Length") == []
    assert await worker.read(len(passed)) == passed
    worker.write(OK)
    # Behind the last chunk a request of its own begins.
    assert (await worker.head()).startswith(b"GET /smuggled ")
    worker.write(OK)
    await scene.client.until(b"ok")
    await scene.client.until(b"ok")


async def test_what_follows_the_last_chunk_is_no_part_of_the_body(scene: Scene) -> None:
    scene.client.write(POST + CHUNKED + b"\r\n0\r\n\r\ngarbage\r\n\r\n")
    worker = await scene.worker.connection()
    await worker.head()
    assert await worker.read(5) == b"0\r\n\r\n"
    worker.write(OK)
    answer = await scene.client.ended()
    assert problem(answer.partition(b"ok")[2])[0] == 400
    await scene.rig.upstream.close()  # which keeps the connection, as the worker has answered
    assert await worker.ended() == b""


async def test_a_content_length_hides_no_request(scene: Scene) -> None:
    scene.client.write(POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED)
    worker = await scene.worker.connection()
    assert fields(await worker.head(), "Content-Length") == [str(len(SMUGGLED))]
    assert await worker.read(len(SMUGGLED)) == SMUGGLED
    worker.write(OK)
    await scene.client.until(b"ok")


@pytest.mark.parametrize("named", [b"Content-Length", b"Transfer-Encoding", b"Host", b"X-Key"])
async def test_connection_cannot_strip_what_frames_or_routes(scene: Scene, named: bytes) -> None:
    """A field that `Connection` names is dropped, but never one that the router itself writes."""
    scene.client.write(
        POST + b"Connection: keep-alive, " + named + b"\r\nX-Key: 1\r\nContent-Length: 3\r\n\r\nabc"
    )
    worker = await scene.worker.connection()
    head = await worker.head()
    assert fields(head, "Content-Length") == ["3"]
    assert fields(head, "Host") == ["h"]
    assert fields(head, "X-Key") == ([] if named == b"X-Key" else ["1"])
    assert fields(head, "Connection") == []
    assert await worker.read(3) == b"abc"
    worker.write(OK)
    await scene.client.until(b"ok")


async def test_a_long_method_is_a_line_too_long(scene: Scene) -> None:
    scene.client.write(b"G" * 2000 + b" /echo/x HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED)
    assert problem(await scene.client.ended())[0] == 414
    assert scene.worker.n_connections == 0


async def test_a_refused_body_is_never_read_as_a_request(scene: Scene) -> None:
    """The endpoint is unknown and the body has not come: what comes is not taken for a request."""
    scene.client.write(
        b"POST /unknown/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    )
    head = await scene.client.head()
    scene.client.write(SMUGGLED)
    assert problem(head + await scene.client.ended()) == (404, "unknown_endpoint")
    assert scene.worker.n_connections == 0


async def test_an_expectation_refused_hides_no_request(scene: Scene) -> None:
    scene.client.write(
        b"POST /unknown/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        % len(SMUGGLED)
        + SMUGGLED
    )
    answer = await scene.client.ended()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert problem(answer) == (404, "unknown_endpoint")
    await asyncio.sleep(0)
    assert scene.worker.n_connections == 0
