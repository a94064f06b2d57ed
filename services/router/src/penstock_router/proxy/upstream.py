"""Connections to workers: kept alive between requests, one request at a time on each.

A connection knows no HTTP. While it carries a request, whoever sent that (its `Sink`) gets what
comes on it; while it is idle, whatever comes ends it.
"""

import asyncio
import errno
import select
from collections.abc import Callable
from typing import Final, Protocol, cast

from typing_extensions import override

from penstock_common.errors import PenstockError
from penstock_router.catalogue import Address, WorkerView
from penstock_router.proxy.heads import HEAD_END, HttpError, Limits, ResponseHead, parse_response
from penstock_router.settings import RouterSettings

#: A connection that holds more unsent bytes than this asks its source to pause. Small, since one
#: read of the source (at most 250 KiB on uvloop) comes on top of it.
HIGH_WATER_BYTES: Final = 4_096
#: Between looks for connections that have been idle for too long.
_SWEEP_S: Final = 1.0
#: A connection idle for so long may be closing at the worker's side: it is looked at before a use.
_STALE_S: Final = 0.5
#: Errors of a connection that are this side's: no file or buffer is left, or no port.
_OWN_FAULTS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
#: Connections that were cut are closed by then.
_CLOSING_S: Final = 0.01


def readable(transport: asyncio.Transport, events: int = select.POLLIN) -> bool:
    """Whether the kernel has something to tell of this connection that was not read yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), events)
    return bool(poll.poll(0))


class UnreachableError(PenstockError):
    """The worker takes no connection; nothing was sent to it."""

    error_type = "worker_unreachable"
    status_hint = 502


class OverloadedError(PenstockError):
    """This machine or process has no connection left to give; nothing was sent to the worker."""

    error_type = "router_overloaded"
    status_hint = 503


class BrokenError(PenstockError):
    """The worker broke the connection, or answered what is no HTTP."""

    error_type = "worker_disconnected"
    status_hint = 502


class Sink(Protocol):
    """Who is told what comes from a worker; plain functions that do not raise."""

    def worker_data(self, data: bytes) -> None:
        """Bytes came."""
        ...

    def worker_eof(self) -> None:
        """The worker sends no more; the connection stays open for what it still reads."""
        ...

    def worker_lost(self, error: Exception | None) -> None:
        """The connection is gone; without an error when it was closed in order."""
        ...

    def worker_paused(self, *, paused: bool) -> None:
        """The worker does not read fast enough, or does again."""
        ...


class WorkerConnection(asyncio.Protocol):
    """One connection to a worker."""

    __slots__ = ("_pool", "address", "eof", "idle_since", "last_head", "sink", "transport")

    transport: asyncio.Transport

    def __init__(self, pool: "Upstream", address: Address) -> None:
        self._pool = pool
        self.address = address
        #: who uses it; None = it is idle
        self.sink: Sink | None = None
        self.idle_since = 0.0
        #: of the last response, since the next one's is often the same
        self.last_head: ResponseHead | None = None
        #: whether the worker sends no more
        self.eof = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are transports by their methods, not by their class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=0)

    @override
    def data_received(self, data: bytes) -> None:
        sink = self.sink
        if sink is not None:
            sink.worker_data(data)
        else:
            # Nobody asked. Were it kept, the next request would take this for its answer.
            self._pool.drop(self)

    @override
    def eof_received(self) -> bool:
        self.eof = True
        if self.sink is not None:
            self.sink.worker_eof()
            return True  # whoever uses it closes it
        self._pool.drop(self)
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.worker_lost(exc)
        else:
            self._pool.forget(self)

    @override
    def pause_writing(self) -> None:
        if self.sink is not None:
            self.sink.worker_paused(paused=True)

    @override
    def resume_writing(self) -> None:
        if self.sink is not None:
            self.sink.worker_paused(paused=False)

    @property
    def seems_open(self) -> bool:
        """Whether the worker has neither closed it nor sent anything, as far as the kernel knows."""
        return not readable(self.transport)

    def release(self) -> None:
        """Give it back: the response was read whole, and the request sent whole."""
        self.sink = None
        self._pool.put(self)

    def abort(self) -> None:
        """Cut it: what is on its way is lost. Nobody is told."""
        self.sink = None
        self.transport.abort()


ConnectResult = WorkerConnection | UnreachableError | OverloadedError


class Upstream:
    """A pool of connections to every worker."""

    def __init__(self, settings: RouterSettings) -> None:
        """An empty pool; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._connect_timeout_s = settings.connect_timeout_s
        self._keepalive_s = settings.worker_keepalive_s
        self._limits = Limits(
            settings.max_line_bytes, settings.max_head_bytes, settings.max_headers
        )
        self._idle: dict[Address, list[WorkerConnection]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that carry no request."""
        return sum(map(len, self._idle.values()))

    def take(self, address: Address) -> WorkerConnection | None:
        """An idle connection to this worker, the one used last; None = there is none."""
        connections = self._idle.get(address)
        if not connections:
            return None
        now = self._loop.time()
        while connections:
            connection = connections.pop()
            idle_s = now - connection.idle_since
            if idle_s < _STALE_S or (idle_s < self._keepalive_s and connection.seems_open):
                return connection
            connection.abort()
        return None

    def connect(
        self, address: Address, on_done: Callable[[ConnectResult], None]
    ) -> asyncio.Task[None]:
        """Open a connection; `on_done` is called once, unless the task is cancelled before."""
        task = self._loop.create_task(
            self._connect(address, on_done), name=f"connect-{address.host}:{address.port}"
        )
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    async def _connect(self, address: Address, on_done: Callable[[ConnectResult], None]) -> None:
        result = await self._try_connect(address)
        if isinstance(result, OverloadedError) and self.idle:
            self._close_idle()
            await asyncio.sleep(_CLOSING_S)
            result = await self._try_connect(address)
        on_done(result)

    async def _try_connect(self, address: Address) -> ConnectResult:
        connection = WorkerConnection(self, address)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._loop.create_connection(lambda: connection, address.host, address.port)
        except TimeoutError:
            detail = f"no answer within {self._connect_timeout_s:g} s (connect_timeout_s)"
            return UnreachableError(f"The worker takes no connection: {detail}.")
        except OSError as error:
            if error.errno in _OWN_FAULTS:
                return OverloadedError(f"This router has no connection left to give: {error}")
            return UnreachableError(f"The worker takes no connection: {error}")
        except asyncio.CancelledError:
            if hasattr(connection, "transport"):  # it was made in this very turn
                connection.abort()
            raise
        return connection

    def put(self, connection: WorkerConnection) -> None:
        """Keep a connection for the next request."""
        transport = connection.transport
        if self._closed or not self._keepalive_s or connection.eof or transport.is_closing():
            transport.abort()
            return
        connection.idle_since = self._loop.time()
        connections = self._idle.get(connection.address)
        if connections is None:
            connections = self._idle[connection.address] = []
        connections.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def drop(self, connection: WorkerConnection) -> None:
        """An idle connection is of no use any more."""
        self.forget(connection)
        connection.abort()

    def forget(self, connection: WorkerConnection) -> None:
        """An idle connection is gone. Safe to repeat."""
        connections = self._idle.get(connection.address)
        if connections and connection in connections:
            connections.remove(connection)

    def _sweep(self) -> None:
        self._sweeping = None
        oldest = self._loop.time() - self._keepalive_s
        for address, connections in tuple(self._idle.items()):
            for connection in connections:
                if connection.idle_since <= oldest:
                    connection.abort()
            connections[:] = [c for c in connections if c.idle_since > oldest]
            if not connections:
                del self._idle[address]
        if self._idle:
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    async def probe(self, worker: WorkerView) -> bool:
        """Whether the worker is well: its health path answers 200, or its port connects."""
        health = worker.assignment.spec.health
        address = worker.address
        if address is None:
            return False
        try:
            async with asyncio.timeout(health.timeout_s):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, limit=self._limits.head_bytes
                )
                try:
                    return health.path is None or await self._ask(
                        reader, writer, health.path, address
                    )
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return False

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        address: Address,
    ) -> bool:
        host = f"[{address.host}]" if ":" in address.host else address.host
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{address.port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("latin-1"))
        try:
            head = await reader.readuntil(HEAD_END)
            return parse_response(head[: -len(HEAD_END)], self._limits).status == 200
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, HttpError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for task in self._connecting:
            task.cancel()
        self._close_idle()

    def _close_idle(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
