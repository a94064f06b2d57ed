"""Request bodies: read within bounds, parsed strictly, refused with a clear reason."""

import asyncio
import json
from typing import Final, NoReturn

from aiohttp import hdrs, web

from penstock_api.problems import RefusedError

#: Larger bodies are refused with 413.
MAX_BODY_BYTES: Final = 1024 * 1024
#: No document of ours is deeper than 6; recursion over a body stays far from Python's limit.
MAX_DEPTH: Final = 32


async def read_json(request: web.Request, media_types: tuple[str, ...], timeout_s: float) -> object:
    """The request's body as parsed JSON.

    Args:
        request: its body has not been read yet.
        media_types: the content types that are taken.
        timeout_s: how long the body may take to arrive.

    Raises:
        RefusedError: 400 (no JSON), 408 (too slow), 413 (too large) or 415 (another type).
    """
    _check_headers(request, media_types)
    return parse_json(await read_bytes(request, timeout_s))


async def read_bytes(request: web.Request, timeout_s: float) -> bytes:
    """The request's body, which is kept for whoever reads it next.

    Raises:
        RefusedError: 400 (it ended early), 408 (too slow) or 413 (too large).
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise RefusedError(
            408, "body_too_slow", f"the body did not arrive within {timeout_s:g} s"
        ) from None
    except web.RequestPayloadError:
        raise RefusedError(400, "malformed_body", "the body ended early or is garbled") from None


def parse_json(body: bytes) -> object:
    """The JSON value in these bytes.

    Raises:
        RefusedError: it is no strict JSON in UTF-8; the detail says where, if it can be told.
    """
    try:
        value: object = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        _refuse(f"it is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        _refuse(f"{error.msg} at line {error.lineno}, column {error.colno}")
    except ValueError as error:  # NaN and the like; numbers of thousands of digits
        _refuse(str(error))
    except RecursionError:
        _refuse(f"it is nested deeper than {MAX_DEPTH} levels")
    if _depth_beyond(value, MAX_DEPTH):
        _refuse(f"it is nested deeper than {MAX_DEPTH} levels")
    if b"\\ud" in body.lower():
        # "\ud800" is JSON but no text: it could be neither stored nor shown.
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            _refuse("it holds half of a surrogate pair (\\ud800 to \\udfff)")
    return value


def _check_headers(request: web.Request, media_types: tuple[str, ...]) -> None:
    media_type = request.content_type if hdrs.CONTENT_TYPE in request.headers else "none"
    if media_type not in media_types or (request.charset or "utf-8").lower() != "utf-8":
        accept = "Accept-Patch" if request.method == hdrs.METH_PATCH else "Accept"
        raise RefusedError(
            415,
            "unsupported_media_type",
            f"send the body as Content-Type: {media_types[0]} in UTF-8, not {media_type}",
            headers={accept: ", ".join(media_types)},
        )
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise RefusedError(415, "unsupported_encoding", "send the body without Content-Encoding")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise RefusedError(413, "body_too_large", f"the body is larger than {MAX_BODY_BYTES} bytes")


def _depth_beyond(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse(why: str) -> NoReturn:
    raise RefusedError(400, "malformed_json", f"the body is no JSON: {why}")
