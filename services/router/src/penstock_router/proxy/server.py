"""The listening side: HTTP/1.1 connections of clients, and their graceful end."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_parser, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from typing_extensions import override

from penstock_common.lifecycle import MisconfiguredError
from penstock_router.admission import Refusal
from penstock_router.gate import Gate
from penstock_router.problems import problem_body, problem_headers
from penstock_router.proxy.exchange import SERVER, Exchange
from penstock_router.proxy.upstream import Upstream
from penstock_router.settings import RouterSettings

logger = logging.getLogger(__name__)

_READ_BUFFER_BYTES: Final = 65_536
#: How long the rest of a refused body is read, so that the client gets to read the refusal.
_LINGER_S: Final = 2.0
#: At a stop, for connections that were cut.
_CUT_TIMEOUT_S: Final = 0.1


class _Connection(RequestHandler):
    """A client's connection: its errors are problem details, also within a body."""

    __slots__ = ()

    @override
    def data_received(self, data: bytes) -> None:
        """Parse what came.

        A body that turns out broken ends with an error here; aiohttp would leave whoever reads it
        waiting, and only queue its own answer behind that request's.
        """
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            request = self._current_request
            if request is not None and not request.content.is_eof():
                request.content.set_exception(web.RequestPayloadError("the body is broken"))
                request.content.feed_eof()

    def close_if_idle(self) -> None:
        """Close it unless a request is being served; one that is still reads its body."""
        if self._current_request is None and not self._messages:
            self.close()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to what is no HTTP, or to a failure of ours."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("request handler failed", extra={"action": "handler_failed"}, exc_info=exc)
            refusal = Refusal(status, "internal", "The router failed to handle the request.")
        else:
            line = (message or "").strip().splitlines()
            refusal = Refusal(status, "bad_request", line[0] if line else "This is no HTTP.")
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun already")
        headers = dict(problem_headers(refusal)) | {"Server": SERVER}
        response = web.Response(status=status, body=problem_body(refusal), headers=headers)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes a `_Connection` of each connection."""

    @override
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class ProxyServer:
    """Serves clients."""

    def __init__(self, gate: Gate, upstream: Upstream, settings: RouterSettings) -> None:
        """A server that does not listen yet; needs a running event loop.

        Raises:
            MisconfiguredError: aiohttp lacks its C parser. The one in pure Python is slower and
                was laxer, time and again, in what it takes for a request.
        """
        if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
            raise MisconfiguredError("aiohttp was built without its C parser; reinstall it")
        self._gate = gate
        self._upstream = upstream
        self._settings = settings
        self._draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": settings.client_keepalive_s,
            "lingering_time": _LINGER_S,
            "max_field_size": settings.max_line_bytes,
            "max_headers": settings.max_headers,
            "max_line_size": settings.max_line_bytes,
            "read_bufsize": _READ_BUFFER_BYTES,
        }
        # Cancellation is how an exchange learns that its client left.
        self._server = _Server(self._handle, handler_cancellation=True, **options)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_CUT_TIMEOUT_S)
        self._site: web.TCPSite | None = None

    @property
    def in_flight(self) -> int:
        """Requests whose handling has begun and not ended."""
        return self._in_flight

    async def start(self) -> int:
        """Listen; gives the port.

        Raises:
            MisconfiguredError: the address is taken or not ours.
        """
        settings = self._settings
        await self._runner.setup()
        self._site = web.TCPSite(
            self._runner,
            settings.host,
            settings.port,
            backlog=1024,
            reuse_port=settings.reuse_port or None,
        )
        try:
            await self._site.start()
        except OSError as error:
            raise MisconfiguredError(
                f"cannot listen on {settings.host}:{settings.port}: {error}"
            ) from error
        port: int = self._runner.addresses[0][1]
        return port

    async def drain(self, timeout_s: float) -> None:
        """Take no new connection, close the idle ones, and let requests end until the timeout."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        # Connections that were accepted in the same turn begin their request first.
        await asyncio.sleep(0)
        self._draining = True
        for connection in self._server.connections:
            assert isinstance(connection, _Connection)
            connection.close_if_idle()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            logger.warning(
                "requests cut off at shutdown",
                extra={"action": "requests_cut", "in_flight": self._in_flight},
            )

    async def close(self) -> None:
        """Cut what is left."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._in_flight += 1
        self._idle.clear()
        try:
            exchange = Exchange(
                request,
                gate=self._gate,
                upstream=self._upstream,
                max_attempts=self._settings.max_attempts,
            )
            response = await exchange.run()
            if self._draining:
                response.force_close()
            return response
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
