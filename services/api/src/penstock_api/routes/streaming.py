"""Answers that go on as things happen: server-sent events, or whatever a form makes of them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Final, Generic, Protocol, TypeVar

from aiohttp import hdrs, web

from penstock_api.context import Api

logger = logging.getLogger(__name__)

SSE: Final = "text/event-stream"
#: Without anything to send for so long, a sign shows that the stream lives.
HEARTBEAT_S: Final = 15.0
#: A client that takes nothing for so long is cut off.
WRITE_TIMEOUT_S: Final = 30.0

T_contra = TypeVar("T_contra", contravariant=True)
T = TypeVar("T")


class Form(Protocol[T_contra]):
    """How what is streamed looks on the wire."""

    media_type: str

    def encode(self, item: T_contra) -> bytes:
        """An item, in order; empty = nothing to send."""
        ...

    def alive(self) -> bytes:
        """What shows that the stream lives; empty = this form has no such sign."""
        ...


def sse_event(data: str, *, name: str | None = None, position: object = None) -> str:
    """One server-sent event (HTML, 9.2).

    Args:
        data: without line breaks.
        name: None = `message`, which browsers hand to `onmessage`.
        position: its id, where a client that comes back goes on.
    """
    lines = [] if position is None else [f"id: {position}"]
    lines += [f"event: {name}"] if name else []
    return "\n".join([*lines, f"data: {data}", "", ""])


async def stream_answer(
    api: Api, request: web.Request, items: AsyncGenerator[T, None], form: Form[T]
) -> web.StreamResponse:
    """The answer that sends these items as they come, until they or the client end.

    What the first item raises is a refusal with a status of its own.
    """
    async with contextlib.aclosing(items):
        first = await anext(items, None)
        headers = {
            hdrs.CONTENT_TYPE: f"{form.media_type}; charset=utf-8",
            hdrs.CACHE_CONTROL: "no-cache",
            "X-Accel-Buffering": "no",
        }
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        writer = _Writer(api, request, response, form)
        with contextlib.suppress(ConnectionError):  # the client has left
            if first is not None:
                await writer.write(first)
            async for item in items:
                await writer.write(item)
    return response


class _Writer(Generic[T]):
    """Writes to one client, and notices that it is gone."""

    def __init__(
        self, api: Api, request: web.Request, response: web.StreamResponse, form: Form[T]
    ) -> None:
        self._clock = api.clock
        self._request = request
        self._response = response
        self._form = form
        self._written_at = self._clock.monotonic()

    async def write(self, item: T) -> None:
        """Send it.

        Raises:
            ConnectionError: the client is gone, or takes nothing.
        """
        data = self._form.encode(item)
        now = self._clock.monotonic()
        if not data and now - self._written_at > HEARTBEAT_S:
            data = self._form.alive()
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        if not data:
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.write(data)
        except TimeoutError:
            logger.info(
                "stream cut off, its client reads nothing",
                extra={"action": "stream_cut_off", "http.route": _route(self._request)},
            )
            transport.abort()
            raise ConnectionAbortedError("the client reads nothing") from None
        self._written_at = now


def _route(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return resource.canonical if resource else None
