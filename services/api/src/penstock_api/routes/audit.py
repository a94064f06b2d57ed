"""The audit trail: who changed what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from penstock_api.audit.documents import record_document
from penstock_api.audit.following import WantedRecords
from penstock_api.audit.reader import AuditFilter
from penstock_api.context import Api
from penstock_api.paging import MalformedPageError, encode_cursor, parse_page
from penstock_api.problems import RefusedError
from penstock_api.routes.queries import accepts, count, flag, is_token
from penstock_api.routes.route import PAGE, Query, Route, answer
from penstock_api.routes.streaming import SSE, SequenceForm, sequence_asked, stream_answer
from penstock_api.usage import parse_instant
from penstock_client.documents import AuditList

MAX_TAIL: Final = 1_000
_PARAMETERS: Final = (
    *("key", "target", "action", "since", "until"),
    *("limit", "cursor", "follow", "tail"),
)
_TIME: Final = {"type": "string", "examples": ["2030-01-31", "2030-01-31T12:00:00Z"]}


async def show_audit(api: Api, request: web.Request) -> web.StreamResponse:
    """GET /v1/audit."""
    if accepts(request, SSE):
        asked = WantedRecords(
            filter=_filter(request.query),
            follow=flag(request, "follow", default=True),
            position=sequence_asked(request),
            tail=count(request, "tail", most=MAX_TAIL),
        )
        return await stream_answer(api, request, api.audit_follower.read(asked), SequenceForm())
    page = parse_page(request.query)
    found = await api.audit_reader.page(
        _filter(request.query), page.limit, _below(page.after) if page.after else None
    )
    return answer(
        AuditList(
            records=tuple(map(record_document, found.records)),
            next_cursor=None if found.below is None else encode_cursor((str(found.below),)),
        )
    )


def _below(place: tuple[str, ...]) -> int:
    if len(place) != 1 or not (place[0].isascii() and place[0].isdigit() and len(place[0]) < 20):
        raise MalformedPageError
    return int(place[0])


def _filter(query: Mapping[str, str]) -> AuditFilter:
    unknown = sorted(query.keys() - set(_PARAMETERS))
    if unknown:
        known = ", ".join(_PARAMETERS)
        raise _refuse(f"'{unknown[0]}' is no parameter; there are {known}")
    key = query.get("key")
    if key is not None and not is_token(key):
        raise _refuse("key is the id of an API key or a join token, or nobody, scheduler, api")
    return AuditFilter(
        key=key,
        target=query.get("target"),
        action=query.get("action"),
        since=_instant(query, "since"),
        until=_instant(query, "until"),
    )


def _instant(query: Mapping[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        return parse_instant(query[name])
    except (ValueError, OverflowError):
        raise _refuse(
            f"{name} is a date such as 2030-01-31, or an instant such as 2030-01-31T12:00:00Z"
        ) from None


def _refuse(detail: str) -> RefusedError:
    return RefusedError(400, "bad_query", detail)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/audit",
        show_audit,
        "admin",
        "Show who changed what, the newest first, or with Accept: text/event-stream as it happens.",
        AuditList,
        query=(
            Query(
                "key",
                "only what this API key or join token asked for; `nobody` = without a good one; "
                "`scheduler` or `api` = what Penstock changed by itself",
                {"type": "string"},
            ),
            Query("target", "only what is about this id or name", {"type": "string"}),
            Query("action", "only this operation, e.g. `endpoints_update`", {"type": "string"}),
            Query("since", "date or RFC 3339 instant; only from then on", _TIME),
            Query("until", "date or RFC 3339 instant; only before it", _TIME),
            Query(
                "follow",
                "of a stream: false ends it when all that there is was sent",
                {"type": "boolean", "default": True},
            ),
            Query(
                "tail",
                "of a stream: begin with the last records, so many; without this, `since` and "
                "`Last-Event-ID` it begins now, or if it does not follow with the first that is kept",
                {"type": "integer", "minimum": 0, "maximum": MAX_TAIL},
            ),
            *PAGE,
        ),
        errors=(503,),
        other_answers=(SSE,),
    ),
)
