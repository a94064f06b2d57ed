"""Usage: GPU-seconds by endpoint, API key, product or worker."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, get_args

from aiohttp import hdrs, web

from penstock_api.context import Api
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Query, Route, answer
from penstock_api.usage import UsageSums, month_of, parse_instant
from penstock_client.documents import GroupBy, UsageReport
from penstock_client.usage_csv import csv_text
from penstock_common.usage import usage_until

_GROUPS: Final[dict[str, GroupBy]] = {name: name for name in get_args(GroupBy)}
_PARAMETERS: Final = frozenset({"from", "to", "group_by"})
CSV: Final = "text/csv"
_TIME: Final = {"type": "string", "examples": ["2030-01-31", "2030-01-31T12:00:00Z"]}


async def show_usage(api: Api, request: web.Request) -> web.Response:
    """GET /v1/usage."""
    now = api.clock.utc()
    since, until, group_by = _asked(request, now)
    sums = UsageSums(since, until, group_by)
    # Those that run are looked at first: one that ends meanwhile is found in the stream as well,
    # where its record comes before its assignment goes.
    statuses = api.store.worker_status.rows
    running = [
        usage_until(assignment, row.value if (row := statuses.get(key)) else None, utc=now)
        for key, assignment in api.store.assignments().items()
    ]
    async for record in api.usage.read(since):
        sums.add(record)
    for record in running:
        sums.add(record)
    names = {row.value.key_id: row.value.name for row in api.store.api_keys.rows.values()}
    report = sums.report(api.settings.gpu_prices, names)
    if CSV in request.headers.get(hdrs.ACCEPT, ""):
        return web.Response(text=csv_text(report), content_type=CSV, charset="utf-8")
    return answer(report)


def _asked(request: web.Request, now: datetime) -> tuple[datetime, datetime, GroupBy]:
    query = request.query
    unknown = sorted(query.keys() - _PARAMETERS)
    if unknown:
        raise _refuse(f"'{unknown[0]}' is no parameter; there are from, to and group_by")
    since = _instant(query, "from", month_of(now))
    until = min(_instant(query, "to", now), now)
    group_by = _GROUPS.get(query.get("group_by", "endpoint"))
    if group_by is None:
        raise _refuse(f"group_by is one of {', '.join(_GROUPS)}")
    if since > until:
        raise _refuse("from lies after to, or in the future")
    return since, until, group_by


def _instant(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    text = query.get(name)
    if text is None:
        return default
    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        raise _refuse(
            f"{name} is a date such as 2030-01-31, or an instant such as 2030-01-31T12:00:00Z"
        ) from None


def _refuse(detail: str) -> RefusedError:
    return RefusedError(400, "bad_query", detail)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/usage",
        show_usage,
        "read",
        "Show the GPU-seconds used, as JSON or CSV.",
        UsageReport,
        query=(
            Query("from", "date or RFC 3339 instant; left out = this month's beginning", _TIME),
            Query("to", "date or RFC 3339 instant; left out = now", _TIME),
            Query("group_by", "what is summed", {"enum": [*_GROUPS], "default": "endpoint"}),
        ),
        errors=(503,),
        other_answers=(CSV,),
    ),
)
