"""A small HTTP/1.1 client of the benchmark's own, which costs little and says when bytes came."""

import asyncio
import contextlib
import re
from http import HTTPStatus
from typing import Final, cast

from typing_extensions import override

from benchmarks.router.targets import Ask, Target

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """A connection with at most one request under way."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.body = b""

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect to 127.0.0.1 within 5 s.

        Raises:
            OSError: refused, or not within 5 s.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    def send(self, request: bytes) -> asyncio.Future[int]:
        """Send a request; gives its status later.

        The future fails with `ConnectionError` when the connection ends first. `body` then holds
        the response's body, framing included if it is chunked.
        """
        assert self._answer is None
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._fail()
        else:
            self._transport.write(request)
        return answer

    async def ask(self, request: bytes, *, timeout_s: float = 10.0) -> int:
        """Send a request and wait for its status.

        Raises:
            ConnectionError: the connection ended before the answer.
            TimeoutError: no whole answer came in time.
        """
        async with asyncio.timeout(timeout_s):
            return await self.send(request)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail()

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        found = _LENGTH.search(self._received, 0, head_end)
        if found:
            if len(self._received) < head_end + 4 + int(found[1]):
                return
        elif not self._received.endswith(b"\r\n0\r\n\r\n"):
            return
        self.body = bytes(self._received[head_end + 4 :])
        status = int(self._received[9:12])
        self._received.clear()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(status)

    def _fail(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionError("closed before the answer"))


class EventStream(asyncio.Protocol):
    """A connection that asks for server-sent events once, and counts them."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.WriteTransport | None = None
        self.events = 0
        #: pieces in which they came
        self.reads = 0
        self.ended = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"\n\n")
        self.reads += 1

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


async def answered(target: Target, ask: Ask) -> None:
    """Return once the target answers 200 on a new connection; the caller bounds the wait."""
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            connection = await Connection.open(target.port)
            try:
                if await connection.ask(target.request(ask)) == HTTPStatus.OK:
                    return
            finally:
                connection.close()
        await asyncio.sleep(0.05)
