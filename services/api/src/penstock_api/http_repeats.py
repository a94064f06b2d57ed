"""`Idempotency-Key` of HTTP requests; what it means stands in idempotency.py."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from penstock_api import idempotency
from penstock_api.answers import Answer
from penstock_api.bodies import read_bytes

if TYPE_CHECKING:  # the context knows the repeats
    from penstock_api.context import Api

#: Headers of an answer that are given again.
KEPT: Final = ("Content-Type", "Location", "ETag")


async def answer_once(
    api: "Api", request: web.Request, handle: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The answer of `handle`, or that of the first request with this Idempotency-Key, if it has one.

    Raises:
        PenstockError: as `Repeats.once`.
    """
    if idempotency.HEADER not in request.headers:
        return await handle()

    async def answer() -> Answer:
        response = await handle()
        assert isinstance(response, web.Response), "an answer that streams cannot be kept"
        body = b"" if response.body is None else response.body  # 204 has none
        assert isinstance(body, bytes)
        headers = {name: response.headers[name] for name in KEPT if name in response.headers}
        return Answer(response.status, headers, body)

    repeatable = idempotency.Repeatable(
        caller=request.headers.get(hdrs.AUTHORIZATION, ""),
        target=(request.method, request.path),
        key=request.headers[idempotency.HEADER],
        body=await read_bytes(request, api.settings.body_timeout_s),
    )
    known = await api.repeats.once(repeatable, answer)
    return web.Response(status=known.status, headers=known.headers, body=known.body)
