"""The worker behind every proxy: as little work as an answer can be.

    python -m benchmarks.router.upstream PORT

    GET or POST /…          a fixed answer at once
    GET /work?ms=5          the same after 5 ms
    GET /sse?every_ms=40    server-sent events until the client leaves
    GET /v1/models          the one model `bench`, for peers that ask before they forward
    GET /handoffs           JSON about `/work` since the last time: requests, in flight now and at
                            most, and the ms from each answer to the request that took its slot

The query `slots=N` of `/handoffs` says how many were allowed at once.
"""

import asyncio
import json
import re
import sys
import time
from typing import Final, cast
from urllib.parse import parse_qsl

import uvloop
from typing_extensions import override

BODY: Final = b'{"id":"bench","object":"text_completion","choices":[{"index":0,"text":"hello"}]}\n'
EVENT: Final = b'data: {"id":"bench","choices":[{"index":0,"delta":{"content":" hello"}}]}\n\n'
_HEAD: Final = b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\n"
_SSE_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_CHUNK: Final = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def answer(body: bytes) -> bytes:
    """A whole response with this JSON."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (_HEAD, len(body), body)


ANSWER: Final = answer(BODY)
MODELS: Final = answer(b'{"object":"list","data":[{"id":"bench","object":"model"}]}')


class WorkLog:
    """When slots were taken and given back, as the worker sees it."""

    def __init__(self) -> None:
        self._began: list[float] = []
        self._ended: list[float] = []
        self._in_flight = self._most = self._carried = 0

    def begin(self) -> None:
        """A request has come."""
        self._began.append(time.perf_counter())
        self._in_flight += 1
        self._most = max(self._most, self._in_flight)

    def end(self) -> None:
        """Its answer is written, or its connection is gone."""
        self._ended.append(time.perf_counter())
        self._in_flight -= 1

    def take(self, slots: int) -> dict[str, object]:
        """What was logged, and start anew.

        While clients wait, the request number `n + slots` takes the slot that the answer number `n`
        freed, whatever the order among those in flight; those in flight at first have come before.
        """
        later = self._began[slots - self._carried :]
        gaps = [(began - ended) * 1000 for began, ended in zip(later, self._ended, strict=False)]
        report: dict[str, object] = {
            "requests": len(self._began),
            "in_flight": self._in_flight,
            "most_in_flight": self._most,
            "gaps_ms": gaps,
        }
        self._began, self._ended = [], []
        self._most = self._carried = self._in_flight
        return report


class Server(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, log: WorkLog) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._received = b""
        #: ends the `/work` that is being done
        self._work: asyncio.TimerHandle | None = None
        self._transport: asyncio.WriteTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._work is not None:
            self._work.cancel()
            self._finish_work()

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        if not self._received.startswith(b"GET"):
            found = _LENGTH.search(self._received, 0, head_end)
            if found:
                if len(self._received) < head_end + 4 + int(found[1]):
                    return
            elif not self._received.endswith(b"\r\n0\r\n\r\n"):
                return
        target = self._received.split(b" ", 2)[1]
        self._received = b""
        path, _, query = target.partition(b"?")
        self._serve(path, query)

    def _serve(self, path: bytes, query: bytes) -> None:
        assert self._transport is not None
        if path == b"/work":
            self._log.begin()
            delay_s = _number(query, "ms") / 1000
            self._work = self._loop.call_later(delay_s, self._finish_work)
        elif path == b"/sse":
            self._transport.write(_SSE_HEAD)
            self._send_event(_number(query, "every_ms") / 1000)
        elif path == b"/handoffs":
            report = self._log.take(int(_number(query, "slots")))
            self._transport.write(answer(json.dumps(report).encode()))
        elif path == b"/v1/models":
            self._transport.write(MODELS)
        else:
            self._transport.write(ANSWER)

    def _finish_work(self) -> None:
        self._work = None
        if self._transport is not None:
            self._transport.write(ANSWER)
        self._log.end()

    def _send_event(self, every_s: float) -> None:
        if self._transport is not None:
            self._transport.write(_CHUNK)
            self._loop.call_later(every_s, self._send_event, every_s)


def _number(query: bytes, name: str) -> float:
    return float(dict(parse_qsl(query.decode()))[name])


async def main(port: int) -> None:
    """Serve until cancelled."""
    log = WorkLog()
    server = await asyncio.get_running_loop().create_server(
        lambda: Server(log), "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
