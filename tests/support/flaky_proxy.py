"""An HTTP proxy before a server, whose faults are told beforehand, one for each request."""

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web

#: The server does it, and its answer is lost.
LOSE: Final = "lose"
#: The connection breaks before the server sees anything.
CUT: Final = "cut"
_HOP_BY_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "host"})


@dataclass(frozen=True)
class Refuse:
    """An answer in the server's place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    #: problem details with this reason; None = a page
    reason: str | None = None


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


class FlakyProxy:
    """Passes on what has no fault coming."""

    def __init__(self, target: str, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._session = session
        self.faults: deque[str | Refuse] = deque()
        self.seen: list[Seen] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, through or not."""
        self.seen.append(Seen(request.method, request.path_qs, request.headers.copy()))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Refuse):
            return _refusal(fault)
        if fault == CUT:
            return _cut(request)
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method,
            self._target + request.path_qs,
            data=await request.read(),
            headers=headers,
        ) as answer:
            body = await answer.read()
        if fault == LOSE:
            return _cut(request)
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in _HOP_BY_HOP}
        return web.Response(status=answer.status, body=body, headers=kept)


@asynccontextmanager
async def flaky_proxy(target: str) -> AsyncIterator[FlakyProxy]:
    """A proxy before the server with this URL, on a port of its own."""
    async with aiohttp.ClientSession() as session:
        proxy = FlakyProxy(target, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            (address, *_) = runner.addresses
            proxy.url = f"http://127.0.0.1:{address[1]}"
            yield proxy
        finally:
            await runner.cleanup()


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()  # goes nowhere


def _refusal(fault: Refuse) -> web.Response:
    if fault.reason is None:
        return web.Response(status=fault.status, headers=fault.headers, text="<html>")
    problem = {"title": "", "status": fault.status, "detail": fault.reason, "reason": fault.reason}
    return web.Response(status=fault.status, headers=fault.headers, text=json.dumps(problem))
