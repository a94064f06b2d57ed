"""The same bytes in any split: the same requests at the worker, the same bytes at the client.

Both sides are in memory; the worker is h11, which also says what the router's requests mean.
"""

import asyncio
from typing import Any

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock_router.catalogue import Address
from penstock_router.proxy.client import ClientConnection
from penstock_router.proxy.upstream import WorkerConnection
from tests.fakes.clock import ManualClock
from tests.support.http_rig import HttpRig

Request = tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...]]


class MemoryTransport:
    """As much of a transport as the byte path uses."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert data, "an empty write is one too many"
        self.written += data

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.7", 1)

    def set_write_buffer_limits(self, **limits: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class H11Worker:
    """Reads requests with h11, and answers each with these bytes, cut at these places."""

    def __init__(self, connection: WorkerConnection, answers: list[bytes], cuts: list[int]) -> None:
        self.connection = connection
        self.transport = MemoryTransport()
        self.requests: list[Request] = []
        self._answers = answers
        self._cuts = cuts
        self._h11 = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = b""
        self._begun = 0
        connection.connection_made(self.transport)  # type: ignore[arg-type]

    def pump(self) -> None:
        """Read what came since, and answer."""
        while self._begun < len(self.transport.written):
            self._h11.receive_data(bytes(self.transport.written[self._begun :]))
            self._begun = len(self.transport.written)
            while self._read():
                pass

    def _read(self) -> bool:
        event = self._h11.next_event()
        match event:
            case h11.Request():
                self._request, self._body = event, b""
            case h11.Data():
                self._body += bytes(event.data)
            case h11.EndOfMessage():
                assert self._request is not None
                self.requests.append(
                    (
                        self._request.method,
                        self._request.target,
                        self._body,
                        tuple(event.headers),
                    )
                )
                self._h11.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                self._h11.send(h11.EndOfMessage())
                answer = self._answers[len(self.requests) % len(self._answers)]
                for piece in pieces(answer, self._cuts):
                    self.connection.data_received(piece)
                self._h11.start_next_cycle()
            case _:
                return False
        return True


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    parts = [data[a:b] for a, b in zip(places, places[1:], strict=False)]  # noqa: RUF007  # mypy
    return [part for part in parts if part]


async def route(
    stream: bytes, answers: list[bytes], client_cuts: list[int], worker_cuts: list[int]
) -> tuple[bytes, bool, list[Request]]:
    """(what the client got, whether its connection was closed, what the worker got)."""
    rig = HttpRig(clock=ManualClock())
    rig.put_endpoint(workers={"max_concurrency": 1})
    rig.put_worker(9)
    workers: list[H11Worker] = []
    idle: list[WorkerConnection] = []

    def take(address: Address) -> WorkerConnection:
        if idle:
            return idle.pop()
        connection = WorkerConnection(rig.upstream, address)
        workers.append(H11Worker(connection, answers, worker_cuts))
        return connection

    rig.upstream.take = take  # type: ignore[method-assign]
    rig.upstream.put = idle.append  # type: ignore[method-assign, assignment]
    rig.server._context.date = lambda: "now"  # type: ignore[method-assign]
    client = ClientConnection(rig.server._context)
    transport = MemoryTransport()
    client.connection_made(transport)  # type: ignore[arg-type]
    for piece in pieces(stream, client_cuts):
        client.data_received(piece)
        while any(len(w.transport.written) > w._begun for w in workers):
            for worker in workers:
                worker.pump()
    client.connection_lost(None)
    assert rig.in_use() == 0
    assert rig.server.in_flight == 0
    requests = [request for worker in workers for request in worker.requests]
    return bytes(transport.written), transport.closed, requests


GET_OWN_PAGE = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODIES = st.sampled_from(
    [
        b"\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n\r\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        b'Transfer-Encoding: Chunked\r\n\r\n002;a="b;c"\r\n\r\n\r\n000;d\r\n\r\n',
        b"Content-Length: 4\r\n\r\n\r\n\r\n",
    ]
)
BAD = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"GET /echo/ HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n",
        b"GET /echo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET /echo/ HTTP/1.1\r\nHost: h\r\nX: a\nb\r\n\r\n",
        b"what\r\n\r\n",
        b"GET /echo/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /echo/ HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
        b"POST /unknown/ HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
)
LINES = st.sampled_from(
    [b"", b"X-A: b\r\n", b"Connection: keep-alive\r\n", b"Connection: x-a\r\nX-A: b\r\n"]
)
REQUESTS = st.builds(
    lambda method, lines, body: (
        method + b" /echo/" + method.lower() + b" HTTP/1.1\r\nHost: h\r\n" + lines + body
    ),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    LINES,
    BODIES,
)
STREAMS = st.tuples(st.lists(REQUESTS, max_size=4).map(b"".join), BAD, REQUESTS).map(b"".join)
ANSWERS = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close, X-A\r\nX-A: b\r\n\r\n"
                b'1;a="b"\r\n\r\r\n00a;c\r\n01234\r\n567\r\n0;d\r\nX-Sum: 1\r\nHost: evil\r\n\r\n'
            ),
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        ]
    ),
    min_size=1,
    max_size=3,
)
CUTS = st.lists(st.integers(0, 2000), max_size=40)


@settings(deadline=None, max_examples=60)
@given(STREAMS, ANSWERS, CUTS, CUTS)
@example(GET_OWN_PAGE + b"\r\n" + GET_OWN_PAGE, [ANSWER], [], [])
@example(b"\r\n\r\n" + GET_OWN_PAGE, [ANSWER], [], [])
def test_any_split_gives_the_same(
    stream: bytes, answers: list[bytes], client_cuts: list[int], worker_cuts: list[int]
) -> None:
    whole = asyncio.run(route(stream, answers, [], []))
    assert asyncio.run(route(stream, answers, client_cuts, worker_cuts)) == whole
    assert asyncio.run(route(stream, answers, list(range(2000)), [])) == whole


def by_h11(stream: bytes) -> list[Request]:
    """The requests that h11 finds in a client's bytes, up to the first that it does not take."""
    requests: list[Request] = []
    while True:
        while stream.startswith(b"\r\n"):  # RFC 9112 §2.2 has these passed over; h11 does not
            stream = stream[2:]
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(stream)
        try:
            request = _next_by_h11(connection)
        except h11.RemoteProtocolError:
            return requests
        if request is None:
            return requests
        requests.append(request)
        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return requests
        stream = connection.trailing_data[0]


def _next_by_h11(connection: h11.Connection) -> Request | None:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        match event:
            case h11.Request():
                request = event
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                assert request is not None
                return request.method, request.target, body, tuple(event.headers)
            case _:
                return None


def passed_on(stream: bytes) -> list[Request]:
    """What h11 finds, as the worker should get it."""
    return [
        (method, target.removeprefix(b"/echo"), body, trailers)
        for method, target, body, trailers in by_h11(stream)
        if target.startswith(b"/echo/")
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(REQUESTS, min_size=1, max_size=5).map(b"".join), CUTS)
def test_the_worker_gets_what_h11_reads_from_the_clients_bytes(
    stream: bytes, cuts: list[int]
) -> None:
    _, _, requests = asyncio.run(route(stream, [ANSWER], cuts, []))
    assert requests == passed_on(stream)


@settings(deadline=None, max_examples=60)
@given(STREAMS, st.binary(max_size=3), st.integers(0, 300), CUTS)
def test_the_worker_gets_nothing_that_h11_does_not_read(
    stream: bytes, damage: bytes, at: int, cuts: list[int]
) -> None:
    stream = stream[:at] + damage + stream[at + len(damage) :]
    _, _, requests = asyncio.run(route(stream, [ANSWER], cuts, []))
    assert requests == passed_on(stream)[: len(requests)]


def response_by_h11(method: bytes, stream: bytes) -> tuple[int, bytes]:
    """(status, body) of the first final response in a server's bytes, which must be whole."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(stream)
    status, body = 0, b""
    while True:
        event = connection.next_event()
        match event:
            case h11.Response():
                status = event.status_code
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return status, body
            case h11.InformationalResponse():
                pass
            case _:
                raise AssertionError(f"no whole response: {event!r}")


@settings(deadline=None, max_examples=60)
@given(ANSWERS, CUTS)
def test_the_client_reads_what_the_worker_answered(answers: list[bytes], cuts: list[int]) -> None:
    stream = b"GET /echo/ HTTP/1.1\r\nHost: h\r\n\r\n"
    answer = answers[1 % len(answers)]  # `H11Worker` begins with this one
    got, _, _ = asyncio.run(route(stream, answers, [], cuts))
    assert response_by_h11(b"GET", got) == response_by_h11(b"GET", answer)
