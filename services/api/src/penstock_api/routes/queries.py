"""What a route reads from the part of its URL behind the `?`, and from headers like it."""

from datetime import datetime

from aiohttp import hdrs, web

from penstock_api.problems import RefusedError
from penstock_api.usage import parse_instant


def flag(request: web.Request, name: str, *, default: bool) -> bool:
    """A parameter that is `true` or `false`.

    Raises:
        RefusedError: it is something else.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise wrong(f"{name} is true or false, not '{text}'")
    return text == "true"


def count(request: web.Request, name: str, *, most: int) -> int | None:
    """A parameter that is a number from 0 to `most`; None = it is left out.

    Raises:
        RefusedError: it is something else.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= most):
        raise wrong(f"{name} is a number up to {most}")
    return int(text)


def instant(request: web.Request, name: str) -> datetime | None:
    """A parameter that is a date or an RFC 3339 instant; None = it is left out.

    Raises:
        RefusedError: it is something else.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        return parse_instant(text)
    except (ValueError, OverflowError):
        raise wrong(
            f"{name} is a date such as 2030-01-31, or an instant such as 2030-01-31T12:00:00Z"
        ) from None


def accepts(request: web.Request, media_type: str) -> bool:
    """Whether the request names this media type as one that it takes."""
    return media_type in request.headers.get(hdrs.ACCEPT, "").lower()


def is_token(text: str) -> bool:
    """Whether it may stand in a NATS subject, and means but itself there."""
    return text.isascii() and text.replace("-", "").replace("_", "").isalnum()


def wrong(detail: str) -> RefusedError:
    """A parameter is wrong: how, and what to do about it."""
    return RefusedError(400, "wrong_parameter", detail)
