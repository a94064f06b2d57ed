"""Events: as they happen (server-sent events), or the newest ones (JSON)."""

import json
from datetime import datetime
from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.event_reading import WantedEvents
from penstock_api.paging import Page, encode_cursor, parse_page
from penstock_api.routes.queries import accepts, count, flag, instant, is_token, wrong
from penstock_api.routes.route import PAGE, Query, Route
from penstock_api.routes.streaming import (
    SSE,
    SequenceForm,
    is_sequence,
    sequence_asked,
    stream_answer,
)
from penstock_api.store import EndpointNotFoundError
from penstock_client.documents import EventList
from penstock_common import ids
from penstock_common.events.cloud_event import BATCH
from penstock_common.events.filters import EventFilter, UnknownTypeError, check_type

JSON: Final = "application/json"
MAX_TAIL: Final = 1_000


async def show_events(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/events."""
    wanted, since = _filter(api, request), instant(request, "since")
    if accepts(request, BATCH) or (accepts(request, JSON) and not accepts(request, SSE)):
        return await _page_of(api, request, wanted, since)
    asked = WantedEvents(
        filter=wanted,
        follow=flag(request, "follow", default=True),
        position=sequence_asked(request),
        since=since,
        tail=count(request, "tail", most=MAX_TAIL),
    )
    return await stream_answer(api, request, api.event_reader.read(asked), SequenceForm())


async def _page_of(
    api: Api, request: web.Request, wanted: EventFilter, since: datetime | None
) -> web.Response:
    page = parse_page(request.query)
    found = await api.event_reader.newest(wanted, page.limit, before=_before(page), since=since)
    cursor = None if found.before is None else encode_cursor((str(found.before),))
    if accepts(request, BATCH):
        text = f"[{','.join(stored.json() for stored in found.events)}]"
        headers = {}
        if cursor is not None:
            following = request.rel_url.update_query(cursor=cursor)
            headers["Link"] = f'<{following}>; rel="next"'
        return web.Response(text=text, content_type=BATCH, headers=headers)
    # By hand, not by the model: a CloudEvent has the attributes that it has, and no nulls.
    events = ",".join(stored.json() for stored in found.events)
    text = f'{{"events":[{events}],"next_cursor":{json.dumps(cursor)}}}'
    return web.Response(text=text, content_type=JSON)


def _before(page: Page) -> int | None:
    if page.after is None:
        return None
    text = page.after[0] if len(page.after) == 1 else ""
    if not is_sequence(text):
        raise wrong("cursor is the `next_cursor` of the page before")
    return int(text)


def _filter(api: Api, request: web.Request) -> EventFilter:
    node_id = request.query.get("node")
    if node_id is not None and not is_token(node_id):
        raise wrong(f"'{node_id}' is no id of a node")
    try:
        types = tuple(check_type(text) for text in request.query.getall("type", []))
    except UnknownTypeError as error:
        raise wrong(str(error)) from None
    return EventFilter(_endpoint_id(api, request), node_id, types)


def _endpoint_id(api: Api, request: web.Request) -> str | None:
    """The id of the endpoint that is asked about, which may be gone if it is named by its id."""
    name = request.query.get("endpoint")
    if name is None:
        return None
    try:
        return api.store.find(name).endpoint_id
    except EndpointNotFoundError:
        if ids.is_id(ids.ENDPOINT, name):
            return name
        raise EndpointNotFoundError(
            f"there is no endpoint '{name}'; ask for one that is gone by its id"
        ) from None


ROUTES: Final = (
    Route(
        "GET",
        "/v1/events",
        show_events,
        "read",
        "Stream what happens, or with Accept: application/json list what happened last.",
        EventList,
        query=(
            Query(
                "endpoint",
                "only what concerns this endpoint, its workers and scaling included; id or app_name",
                {"type": "string", "minLength": 1},
            ),
            Query(
                "node",
                "only what concerns the node with this id, the workers on it included",
                {"type": "string", "minLength": 1},
            ),
            Query(
                "type",
                "only this type, e.g. `penstock.worker.failed`, or all that begin with this and end "
                "with a dot, e.g. `penstock.worker.`; may be repeated",
                {"type": "array", "items": {"type": "string"}},
            ),
            Query(
                "since",
                "only what was told then or later; date or RFC 3339 instant",
                {"type": "string", "examples": ["2030-01-31", "2030-01-31T12:00:00Z"]},
            ),
            Query(
                "follow",
                "of a stream: false ends it when all that there is was sent",
                {"type": "boolean", "default": True},
            ),
            Query(
                "tail",
                "of a stream: begin with the last events, so many; without this, `since` and "
                "`Last-Event-ID` it begins now, or if it does not follow with the first that is kept",
                {"type": "integer", "minimum": 0, "maximum": MAX_TAIL},
            ),
            *PAGE,
        ),
        errors=(404, 503),
        other_answers=(SSE, BATCH),
    ),
)
