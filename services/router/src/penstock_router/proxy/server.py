"""The listening side: connections of clients, and their graceful end."""

import asyncio
import logging

from penstock_common.lifecycle import MisconfiguredError
from penstock_router.gate import Gate
from penstock_router.proxy.client import ClientConnection
from penstock_router.proxy.context import Context
from penstock_router.proxy.upstream import Upstream
from penstock_router.settings import RouterSettings

logger = logging.getLogger(__name__)

_BACKLOG = 1024


class ProxyServer:
    """Serves clients."""

    def __init__(self, gate: Gate, upstream: Upstream, settings: RouterSettings) -> None:
        """A server that does not listen yet; needs a running event loop."""
        self._settings = settings
        self._context = Context(gate, upstream, settings)
        self._context.on_idle = self._on_idle
        self._idle = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def in_flight(self) -> int:
        """Requests whose handling has begun and not ended."""
        return self._context.in_flight

    async def start(self) -> int:
        """Listen; gives the port.

        Raises:
            MisconfiguredError: the address is taken or not ours.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: ClientConnection(self._context),
                settings.host,
                settings.port,
                backlog=_BACKLOG,
                reuse_port=settings.reuse_port or None,
            )
        except OSError as error:
            raise MisconfiguredError(
                f"cannot listen on {settings.host}:{settings.port}: {error}"
            ) from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def drain(self, timeout_s: float) -> None:
        """Take no new connection, close the idle ones, and let requests end until the timeout."""
        self._stop_listening()
        # Connections that were accepted in the same turn begin their request first.
        await asyncio.sleep(0)
        self._context.draining = True
        for connection in tuple(self._context.connections):
            connection.close_if_idle()
        if not self.in_flight:
            return
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            logger.warning(
                "requests cut off at shutdown",
                extra={"action": "requests_cut", "in_flight": self.in_flight},
            )

    async def close(self) -> None:
        """Cut what is left; what is written already still goes out, if the client reads it."""
        self._stop_listening()
        self._context.draining = True
        for connection in tuple(self._context.connections):
            connection.close_if_idle()
        await asyncio.sleep(0)
        for connection in tuple(self._context.connections):
            connection.cut()
        await asyncio.sleep(0)

    def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def _on_idle(self) -> None:
        self._idle.set()
