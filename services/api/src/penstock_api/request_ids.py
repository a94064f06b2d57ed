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
        given = request.headers.get(HEADER, "")
        found = request[_REQUEST_ID] = given if _GOOD.fullmatch(given) else random_id(ids.REQUEST)
    return found


async def tell_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Name the request in its answer's head; a signal handler of aiohttp (`on_response_prepare`)."""
    response.headers[HEADER] = request_id(request)
