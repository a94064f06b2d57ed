"""The audit trail: who changed what."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from penstock_api.audit.reader import AuditFilter
from penstock_api.context import Api
from penstock_api.paging import MalformedPageError, encode_cursor, parse_page
from penstock_api.problems import RefusedError
from penstock_api.routes.queries import is_token
from penstock_api.routes.route import PAGE, Query, Route, answer
from penstock_api.usage import parse_instant
from penstock_client.documents import (
    AuditChangeDocument,
    AuditList,
    AuditRecordDocument,
    AuditTargetDocument,
)
from penstock_common.messages import AuditRecord

_PARAMETERS: Final = ("key", "target", "action", "since", "until", "limit", "cursor")
_TIME: Final = {"type": "string", "examples": ["2030-01-31", "2030-01-31T12:00:00Z"]}


async def show_audit(api: Api, request: web.Request) -> web.Response:
    """GET /v1/audit."""
    page = parse_page(request.query)
    found = await api.audit_reader.page(
        _filter(request.query), page.limit, _below(page.after) if page.after else None
    )
    return answer(
        AuditList(
            records=tuple(map(_document, found.records)),
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


def _document(record: AuditRecord) -> AuditRecordDocument:
    return AuditRecordDocument(
        id=record.audit_id,
        at=record.at,
        last_at=record.last_at,
        count=record.count,
        request_id=record.request_id,
        key_id=record.key_id,
        key_name=record.key_name,
        source=record.source,
        forwarded_for=record.forwarded_for,
        action=record.action,
        route=record.route,
        targets=tuple(AuditTargetDocument(**target.model_dump()) for target in record.targets),
        status=record.status,
        reason=record.reason,
        why=record.why,
        changes=tuple(AuditChangeDocument(**change.model_dump()) for change in record.changes),
        changes_left_out=record.changes_left_out,
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/audit",
        show_audit,
        "admin",
        "Show who changed what, the newest first.",
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
            *PAGE,
        ),
        errors=(503,),
    ),
)
