"""Each request has an id: the client's own, or a fresh one; the answer, the log and the trail name it."""

import re
from typing import Final

from aiohttp import web

from penstock_common import ids
from penstock_common.entropy import random_id

HEADER: Final = "X-Request-Id"
#: 1 to 128 printable characters, as at the router.
_GOOD: Final = re.compile(r"[!-~]{1,128}")
_REQUEST_ID: Final = web.RequestKey("request_id", str)


def request_id(request: web.Request) -> str:
    """The id of this request."""
    found = request.get(_REQUEST_ID)
    if found is None:
        found = request[_REQUEST_ID] = choose_request_id(request.headers.get(HEADER, ""))
    return found


def choose_request_id(given: str) -> str:
    """The id that a client gave; a fresh one where that is none."""
    return given if _GOOD.fullmatch(given) else random_id(ids.REQUEST)


async def tell_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Name the request in its answer's head; a signal handler of aiohttp (`on_response_prepare`)."""
    response.headers[HEADER] = request_id(request)
