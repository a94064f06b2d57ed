"""A worker by raw bytes: a test reads what the router sent and writes what it likes."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

T = TypeVar("T")
#: What comes at once on a machine that runs; a longer wait is a hang.
_HANGS_S = 60.0


async def within(awaitable: Awaitable[T]) -> T:
    """Its result, unless it hangs."""
    async with asyncio.timeout(_HANGS_S):
        return await awaitable


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection as a crash does: with a reset instead of an end."""
    # uvloop's sockets cannot be told so themselves; a duplicate is the same connection.
    duplicate = os.dup(writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=duplicate) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class RawConnection:
    """One connection that the router opened."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request's head."""
        return await within(self.reader.readuntil(b"\r\n\r\n"))

    async def read(self, n: int) -> bytes:
        return await within(self.reader.readexactly(n))

    async def until(self, end: bytes) -> bytes:
        return await within(self.reader.readuntil(end))

    async def ended(self) -> bytes:
        """What came until the router closed it, or cut it."""
        try:
            return await within(self.reader.read())
        except ConnectionResetError:
            return b""

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        reset(self.writer)


class RawWorker:
    """Listens; gives the connections in the order in which they came."""

    def __init__(self) -> None:
        self.port = 0
        self.n_connections = 0
        self._connections: asyncio.Queue[RawConnection] = asyncio.Queue()
        self._all: list[RawConnection] = []

    async def connection(self) -> RawConnection:
        return await within(self._connections.get())

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = RawConnection(reader, writer)
        self.n_connections += 1
        self._all.append(connection)
        self._connections.put_nowait(connection)


@contextlib.asynccontextmanager
async def running_raw_worker() -> AsyncIterator[RawWorker]:
    """A raw worker that lives for this block."""
    worker = RawWorker()
    server = await asyncio.start_server(worker._on_connection, "127.0.0.1", 0, limit=1 << 20)
    worker.port = server.sockets[0].getsockname()[1]
    try:
        yield worker
    finally:
        server.close()
        for connection in worker._all:
            connection.abort()
        await asyncio.sleep(0)


class RawClient:
    """A client by raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await within(self.reader.readuntil(b"\r\n\r\n"))

    async def read(self, n: int) -> bytes:
        return await within(self.reader.readexactly(n))

    async def until(self, end: bytes) -> bytes:
        return await within(self.reader.readuntil(end))

    async def ended(self) -> bytes:
        """What came until the router closed the connection, or cut it."""
        try:
            return await within(self.reader.read())
        except ConnectionResetError:
            return b"(cut)"

    def abort(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        reset(self.writer)


@contextlib.asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[RawClient]:
    """A connection to the router that lives for this block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
