"""Requests to the api, and what their answers mean [pure]."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from penstock_client.documents import ProblemDocument
from penstock_client.errors import ApiError, UnreachableError
from penstock_client.retrying import Failure, Repeatable, parse_retry_after_s
from penstock_client.wire import Reply, Request, WireError

_MERGE_PATCH: Final = "application/merge-patch+json"
_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
#: Refused before anything was done.
_TOO_MANY: Final = 429
_READING: Final = frozenset({"GET", "HEAD"})


def api_request(
    url: str,
    key: str,
    method: str,
    document: object = None,
    *,
    idempotency_key: str,
    if_match: str | None = None,
    only_new: bool = False,
) -> Request:
    """A request to the api.

    Args:
        url: complete, and encoded.
        key: an API key.
        method: of HTTP.
        document: sent as JSON; None = no body. With PATCH, a JSON merge patch (RFC 7396).
        idempotency_key: under which a change is done once, however often it is sent.
        if_match: the ETag of what a change is made to; None = of whatever there is.
        only_new: nothing is done if there is such a thing already.
    """
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
    body = None
    if document is not None:
        headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else "application/json"
        body = json.dumps(document).encode()
    if method not in _READING:
        headers[_IDEMPOTENCY_KEY] = idempotency_key
    if if_match is not None:
        headers["If-Match"] = if_match
    if only_new:
        headers["If-None-Match"] = "*"
    return Request(method, url, headers, body)


def repeatable(request: Request) -> Repeatable:
    """What happens when this request to the api is sent twice."""
    if request.method in _READING:
        return Repeatable.HARMLESS
    return Repeatable.KEYED if _IDEMPOTENCY_KEY in request.headers else Repeatable.NO


def failure_of(outcome: Reply | WireError, now: datetime) -> Failure | None:
    """How an attempt failed; None = it was answered well."""
    if isinstance(outcome, WireError):
        return Failure(maybe_done=outcome.sent)
    if outcome.status < 400:
        return None
    try:
        reason = ProblemDocument.of(json.loads(outcome.body)).reason
    except (ValueError, ValidationError):  # a proxy's, say
        reason = None
    header = outcome.headers.get("retry-after")
    after_s = parse_retry_after_s(header, now)
    return Failure(outcome.status, reason, after_s, maybe_done=outcome.status != _TOO_MANY)


def parse_reply(url: str, reply: Reply, now: datetime) -> object:
    """The JSON of an answer that is none of an error.

    Args:
        url: of the api, for what is said of it.
        reply: its answer.
        now: aware, for a date in `Retry-After`.

    Raises:
        ApiError: the api refused.
        UnreachableError: it is no answer of a Penstock api.
    """
    try:
        value: object = json.loads(reply.body)
        if reply.status < 300:
            return value
        problem = ProblemDocument.of(value)
    except (ValueError, ValidationError):
        raise UnreachableError(
            f"{url} is no Penstock api: it answered {reply.status} without its JSON"
        ) from None
    after_s = parse_retry_after_s(reply.headers.get("retry-after"), now)
    raise ApiError(problem, retry_after_s=after_s)


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def with_query(path: str, asked: Mapping[str, object]) -> str:
    """The path with these parameters behind it.

    One that is None is left out; one with several values, a tuple, is repeated.
    """
    values = {name: v if isinstance(v, tuple) else (v,) for name, v in asked.items()}
    query = urlencode([(name, _text(v)) for name in values for v in values[name] if v is not None])
    return f"{path}?{query}" if query else path


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
