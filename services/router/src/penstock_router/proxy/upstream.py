"""Connections to workers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from penstock_common.errors import PenstockError
from penstock_router.catalogue import Address, WorkerView
from penstock_router.gate import Call
from penstock_router.settings import RouterSettings

#: Headers that aiohttp would add by itself.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_READ_BUFFER_BYTES: Final = 65_536


class UnreachableError(PenstockError):
    """The worker takes no connection; nothing was sent to it."""

    error_type = "worker_unreachable"
    status_hint = 502


class BrokenError(PenstockError):
    """The worker broke the connection, or answered what is no HTTP."""

    error_type = "worker_disconnected"
    status_hint = 502


class RequestBody:
    """A client's body, passed on as it comes."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        """The body in this stream."""
        self._content = content
        #: whether any of it was taken, so that it cannot be sent again
        self.started = False
        #: what was wrong with it
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Its pieces, as large as they came."""
        self.started = True
        while True:
            try:
                piece = await self._content.readany()
            except Exception as error:
                self.error = error
                raise
            if not piece:
                return
            yield piece


def _url(address: Address, path: str) -> URL:
    host = f"[{address.host}]" if ":" in address.host else address.host
    # `encoded`: path and query go out exactly as they came in.
    return URL(f"http://{host}:{address.port}{path}", encoded=True)


class Upstream:
    """A pool of connections to every worker."""

    def __init__(self, settings: RouterSettings) -> None:
        """An empty pool; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # slots are the limit
                keepalive_timeout=settings.worker_keepalive_s,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_NOT_ADDED,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=settings.max_line_bytes,
            max_field_size=settings.max_line_bytes,
        )

    async def send(
        self, address: Address, call: Call, body: RequestBody | None
    ) -> aiohttp.ClientResponse:
        """Send the request; gives the response once its head is there. Close or read it whole.

        Raises:
            UnreachableError: nothing was sent.
            BrokenError: the worker failed after something was sent.
        """
        try:
            response = await self._session.request(
                call.method,
                _url(address, call.path),
                headers=CIMultiDict(call.fields),
                data=body,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(f"The worker takes no connection: {error}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BrokenError(f"The worker broke off before it answered: {error}") from error
        if response.status < 200:
            response.close()
            raise BrokenError(f"The worker answered {response.status}, which was not asked for.")
        return response

    async def probe(self, worker: WorkerView) -> bool:
        """Whether the worker is well: its health path answers 200, or its port connects."""
        health = worker.assignment.spec.health
        address = worker.address
        if address is None:
            return False
        try:
            async with asyncio.timeout(health.timeout_s):
                if health.path is None:
                    _, writer = await asyncio.open_connection(address.host, address.port)
                    writer.close()
                    return True
                async with self._session.get(
                    _url(address, health.path), allow_redirects=False
                ) as response:
                    return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
