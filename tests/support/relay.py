"""A TCP relay between a client and a server that delays or cuts what passes through it."""

import asyncio
import contextlib


class Relay:
    """Listens on a port of its own; each connection is passed on to `port`."""

    def __init__(self, port: int) -> None:
        self._target = port
        #: seconds that every chunk waits, each way
        self.delay_s = 0.0
        #: true = chunks are read and kept from going on, silently, each way
        self.held = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._released = asyncio.Event()
        #: for NATS clients; known once started
        self.url = ""

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Cut all and end."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    def cut(self) -> None:
        """End every connection at once, losing what is on its way."""
        for writer in self._writers:
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing pass from now on; connections stay open."""
        self.held = True
        self._released.clear()

    def release(self) -> None:
        """Let pass what was held, then all."""
        self.held = False
        self._released.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        for pump in (self._pump(reader, up_writer), self._pump(up_reader, writer)):
            task = asyncio.create_task(pump, name="relay-pump")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while chunk := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.held:
                    await self._released.wait()
                writer.write(chunk)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()
