"""Answers that go on as things happen: server-sent events, or whatever a form makes of them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable
from typing import Final, Generic, Protocol, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel
from typing_extensions import override

from penstock_api.context import Api
from penstock_api.routes.queries import wrong

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


class Gap(Protocol):
    """What is missing in a stream."""

    @property
    def last(self) -> int | None:
        """Sequence up to which it is; None = nobody knows."""
        ...

    def model_dump_json(self) -> str:
        """As JSON."""
        ...


class Told(Protocol):
    """What a reader of a stream is told at one moment; often nothing."""

    @property
    def gap(self) -> Gap | None:
        """Is told before the entries."""
        ...

    @property
    def position(self) -> int | None:
        """All up to this sequence was shown, what is not wanted included; None = nothing new."""
        ...

    def entries(self) -> Iterable[tuple[int, str]]:
        """Sequence and JSON of each, the oldest first."""
        ...


class SequenceForm(Form[Told | BaseModel]):
    """Server-sent events. Their ids are the sequences of the stream.

    An entry is a `message`, so a browser's `onmessage` gets it; beside it there are `missing` and, of
    a model, `end`. The position is told even when no entry fits, so who comes back goes on from there.
    """

    media_type = SSE

    def __init__(self) -> None:
        self._position: int | None = None

    @override
    def encode(self, item: Told | BaseModel) -> bytes:
        """The gap, then the entries."""
        if isinstance(item, BaseModel):
            return sse_event(item.model_dump_json(), name="end").encode()
        parts = []
        if item.gap is not None:
            behind = item.gap.last or 0
            parts.append(sse_event(item.gap.model_dump_json(), name="missing", position=behind))
        parts += [sse_event(data, position=sequence) for sequence, data in item.entries()]
        if self._position is None and not parts:
            parts.append(f"id: {item.position}\n\n")
        if item.position is not None:
            self._position = item.position
        return "".join(parts).encode()

    @override
    def alive(self) -> bytes:
        """A comment, and the position."""
        return f"id: {self._position}\n: alive\n\n".encode()


def sequence_asked(request: web.Request) -> int | None:
    """The position of a reader that comes back; None = it begins.

    Raises:
        RefusedError: its `Last-Event-ID` is no sequence.
    """
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    if not is_sequence(text):
        raise wrong("this Last-Event-ID is none of this api's ids")
    return int(text)


def is_sequence(text: str) -> bool:
    """Whether it may be the number of a message in a stream."""
    return text.isascii() and text.isdigit() and len(text) < 19


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
