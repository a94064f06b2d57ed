"""A receiver of webhooks: a real HTTP server that notes what comes and answers as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from penstock_api.webhooks.signing import ID, SIGNATURE, TIMESTAMP, sign


@dataclass(frozen=True)
class Taken:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers[ID]

    def signed_with(self, secret: str) -> bool:
        """Whether one of its signatures is of this secret."""
        expected = sign(
            secret, message_id=self.id, timestamp=int(self.headers[TIMESTAMP]), body=self.body
        )
        return expected in self.headers[SIGNATURE].split()


#: Says how a request is answered.
Respond = Callable[[Taken], Awaitable[web.Response]]


async def well(_: Taken) -> web.Response:
    return web.Response(text="thanks")


class Receiver:
    """Answers 200 unless `respond` is exchanged."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.respond: Respond = well
        self.url = ""
        self._came = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        taken = Taken(request.path, request.headers.copy(), await request.read())
        self.taken.append(taken)
        async with self._came:
            self._came.notify_all()
        return await self.respond(taken)

    async def until(self, count: int, *, within_s: float = 60.0) -> list[Taken]:
        """What came, once it is so many requests."""
        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(lambda: len(self.taken) >= count)
        return self.taken

    def answer(self, *statuses: int, **options: Any) -> None:
        """Answer the next requests with these statuses, those after them with 200."""
        waiting = list(statuses)

        async def respond(_: Taken) -> web.Response:
            return web.Response(status=waiting.pop(0) if waiting else 200, **options)

        self.respond = respond


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens within the block."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
