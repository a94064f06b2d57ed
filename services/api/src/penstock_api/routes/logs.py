"""Lines of workers: server-sent events, or plain text."""

import asyncio
import contextlib
import logging
from typing import Final, Protocol

from aiohttp import hdrs, web
from typing_extensions import override

from penstock_api.context import Api
from penstock_api.log_reader import Wanted
from penstock_api.log_reading import Position, Shown
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Query, Route
from penstock_client.documents import LogEndDocument, LogGapDocument, LogLineDocument

logger = logging.getLogger(__name__)

SSE: Final = "text/event-stream"
TEXT: Final = "text/plain"
#: Without an event for so long, a comment shows that the stream lives.
HEARTBEAT_S: Final = 15.0
#: A client that takes nothing for so long is cut off.
WRITE_TIMEOUT_S: Final = 30.0
MAX_TAIL: Final = 10_000


class Form(Protocol):
    """How events look on the wire."""

    media_type: str
    #: what shows that the stream lives
    heartbeat: bytes

    def lines(self, shown: list[Shown]) -> bytes:
        """Lines, and the word of those that are missing."""
        ...

    def end(self, document: LogEndDocument) -> bytes:
        """The end."""
        ...


class SseForm(Form):
    """Server-sent events (HTML, 9.2): `line`, `missing`, `end`; ids are positions."""

    media_type = SSE
    heartbeat = b": alive\n\n"

    @override
    def lines(self, shown: list[Shown]) -> bytes:
        """One event each."""
        return "".join(
            f"id: {item.position}\n"
            f"event: {'line' if isinstance(item.document, LogLineDocument) else 'missing'}\n"
            f"data: {item.document.model_dump_json()}\n\n"
            for item in shown
        ).encode()

    @override
    def end(self, document: LogEndDocument) -> bytes:
        """The last event."""
        return f"event: end\ndata: {document.model_dump_json()}\n\n".encode()


class TextForm(Form):
    """The bare lines; with several workers, each behind its worker's id."""

    media_type = TEXT
    heartbeat = b""

    def __init__(self, *, with_workers: bool) -> None:
        self._with_workers = with_workers

    @override
    def lines(self, shown: list[Shown]) -> bytes:
        """One line each."""
        return "".join(self._line(item.document) for item in shown).encode()

    def _line(self, document: LogLineDocument | LogGapDocument) -> str:
        prefix = f"{document.worker_id} " if self._with_workers else ""
        if isinstance(document, LogGapDocument):
            return f"{prefix}{document.sentence}\n"
        return f"{prefix}{document.text}{' …' if document.cut else ''}\n"

    @override
    def end(self, document: LogEndDocument) -> bytes:
        """Nothing: the end of the answer says it."""
        return b""


async def show_worker_logs(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/endpoints/{endpoint}/workers/{worker}/logs."""
    return await _answer(api, request, request.match_info["worker"])


async def show_endpoint_logs(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/endpoints/{endpoint}/logs."""
    return await _answer(api, request, None)


async def _answer(api: Api, request: web.Request, worker_id: str | None) -> web.StreamResponse:
    form = _form(request, with_workers=worker_id is None)
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    if worker_id is not None and not _is_token(worker_id):
        raise RefusedError(404, "worker_not_found", f"'{worker_id}' is no id of a worker")
    wanted = Wanted(
        endpoint_id=endpoint_id,
        worker_id=worker_id,
        follow=_flag(request, "follow", default=form.media_type == SSE),
        tail=_tail(request),
        position=_position(request),
    )
    async with contextlib.aclosing(api.logs.read(wanted)) as answers:
        # The first answer may be a refusal, with a status of its own.
        first = await anext(answers, None)
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
            async for answer in answers:
                await writer.write(answer)
    return response


class _Writer:
    """Writes to one client, and notices that it is gone."""

    def __init__(
        self, api: Api, request: web.Request, response: web.StreamResponse, form: Form
    ) -> None:
        self._clock = api.clock
        self._request = request
        self._response = response
        self._form = form
        self._written_at = self._clock.monotonic()

    async def write(self, answer: list[Shown] | LogEndDocument) -> None:
        """Send it.

        Raises:
            ConnectionError: the client is gone, or takes nothing.
        """
        if isinstance(answer, LogEndDocument):
            data = self._form.end(answer)
        else:
            data = self._form.lines(answer)
        now = self._clock.monotonic()
        if not data and now - self._written_at > HEARTBEAT_S:
            data = self._form.heartbeat
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
                "log stream cut off, its client reads nothing", extra={"action": "log_cut_off"}
            )
            transport.abort()
            raise ConnectionAbortedError("the client reads nothing") from None
        self._written_at = now


def _form(request: web.Request, *, with_workers: bool) -> Form:
    """Plain text where that, and no event stream, is asked for."""
    accepted = request.headers.get(hdrs.ACCEPT, "").lower()
    if TEXT in accepted and SSE not in accepted:
        return TextForm(with_workers=with_workers)
    return SseForm()


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    text = request.query.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise RefusedError(400, "wrong_parameter", f"{name} is true or false, not '{text}'")
    return text == "true"


def _tail(request: web.Request) -> int | None:
    text = request.query.get("tail")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MAX_TAIL):
        raise RefusedError(400, "wrong_parameter", f"tail is a number up to {MAX_TAIL}")
    return int(text)


def _position(request: web.Request) -> Position | None:
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    position = Position.try_parse(text)
    if position is None:
        raise RefusedError(400, "wrong_parameter", "this Last-Event-ID is none of this api's ids")
    return position


def _is_token(text: str) -> bool:
    """Whether it may stand in a NATS subject, and means but itself there."""
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


_QUERY: Final = (
    Query(
        "follow",
        "false ends when all that there is was sent; for plain text that is the default",
        {"type": "boolean", "default": True},
    ),
    Query(
        "tail",
        "begin with the last lines, so many; left out = with the first that is kept",
        {"type": "integer", "minimum": 0, "maximum": MAX_TAIL},
    ),
)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/workers/{worker}/logs",
        show_worker_logs,
        "read",
        "Stream what a worker wrote and writes.",
        None,
        query=_QUERY,
        errors=(400, 503),
        other_answers=(SSE, TEXT),
    ),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/logs",
        show_endpoint_logs,
        "read",
        "Stream what all workers of an endpoint wrote and write.",
        None,
        query=_QUERY,
        errors=(400, 503),
        other_answers=(SSE, TEXT),
    ),
)
