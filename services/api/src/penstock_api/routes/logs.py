"""Lines of workers: server-sent events, or plain text."""

from typing import Final

from aiohttp import web
from typing_extensions import override

from penstock_api.context import Api
from penstock_api.log_reader import Wanted
from penstock_api.log_reading import Position, Shown
from penstock_api.problems import RefusedError
from penstock_api.routes.queries import accepts, count, flag, is_token, wrong
from penstock_api.routes.route import Query, Route
from penstock_api.routes.streaming import SSE, Form, sse_event, stream_answer
from penstock_client.documents import LogEndDocument, LogGapDocument, LogLineDocument

TEXT: Final = "text/plain"
MAX_TAIL: Final = 10_000


Answer = list[Shown] | LogEndDocument


class SseForm(Form[Answer]):
    """Server-sent events: `line`, `missing`, `end`; ids are positions."""

    media_type = SSE

    @override
    def encode(self, item: Answer) -> bytes:
        """One event each."""
        if isinstance(item, LogEndDocument):
            return sse_event(item.model_dump_json(), name="end").encode()
        return "".join(_sse(shown) for shown in item).encode()

    @override
    def alive(self) -> bytes:
        """A comment."""
        return b": alive\n\n"


def _sse(shown: Shown) -> str:
    name = "line" if isinstance(shown.document, LogLineDocument) else "missing"
    return sse_event(shown.document.model_dump_json(), name=name, position=shown.position)


class TextForm(Form[Answer]):
    """The bare lines; with several workers, each behind its worker's id."""

    media_type = TEXT

    def __init__(self, *, with_workers: bool) -> None:
        self._with_workers = with_workers

    @override
    def encode(self, item: Answer) -> bytes:
        """One line each; the end of the answer says that it ended."""
        if isinstance(item, LogEndDocument):
            return b""
        return "".join(self._line(shown.document) for shown in item).encode()

    @override
    def alive(self) -> bytes:
        """Nothing: text has no comments."""
        return b""

    def _line(self, document: LogLineDocument | LogGapDocument) -> str:
        prefix = f"{document.worker_id} " if self._with_workers else ""
        if isinstance(document, LogGapDocument):
            return f"{prefix}{document.sentence}\n"
        return f"{prefix}{document.text}{' …' if document.cut else ''}\n"


async def show_worker_logs(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/endpoints/{endpoint}/workers/{worker}/logs."""
    return await _answer(api, request, request.match_info["worker"])


async def show_endpoint_logs(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/endpoints/{endpoint}/logs."""
    return await _answer(api, request, None)


async def _answer(api: Api, request: web.Request, worker_id: str | None) -> web.StreamResponse:
    form = _form(request, with_workers=worker_id is None)
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    if worker_id is not None and not is_token(worker_id):
        raise RefusedError(404, "worker_not_found", f"'{worker_id}' is no id of a worker")
    wanted = Wanted(
        endpoint_id=endpoint_id,
        worker_id=worker_id,
        follow=flag(request, "follow", default=form.media_type == SSE),
        tail=count(request, "tail", most=MAX_TAIL),
        position=_position(request),
    )
    return await stream_answer(api, request, api.logs.read(wanted), form)


def _form(request: web.Request, *, with_workers: bool) -> Form[Answer]:
    """Plain text where that, and no event stream, is asked for."""
    if accepts(request, TEXT) and not accepts(request, SSE):
        return TextForm(with_workers=with_workers)
    return SseForm()


def _position(request: web.Request) -> Position | None:
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    position = Position.try_parse(text)
    if position is None:
        raise wrong("this Last-Event-ID is none of this api's ids")
    return position


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
