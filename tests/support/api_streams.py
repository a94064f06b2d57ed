"""Streams of server-sent events of an api, being read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from penstock_client.sse import EventReader, ServerEvent
from tests.support.api_server import ADMIN_KEY, ApiServer


class Stream:
    """A stream of events being read."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self._reader = EventReader()
        self._events: list[ServerEvent] = []

    @property
    def last_id(self) -> str:
        """The last id that it told."""
        return self._reader.last_id

    async def next(self, *, within_s: float = 60.0) -> ServerEvent:
        """The next event."""
        async with asyncio.timeout(within_s):
            while not self._events:
                await self._read()
        return self._events.pop(0)

    async def begun(self, *, within_s: float = 60.0) -> None:
        """Return once it has told an id, so that what happens from now on is in it."""
        async with asyncio.timeout(within_s):
            while not self._reader.last_id:
                await self._read()

    async def rest(self) -> list[ServerEvent]:
        """All further events of a stream that ends."""
        async with asyncio.timeout(60):
            while data := await self.answer.content.readany():
                self._events += self._reader.feed(data)
        return self._events

    async def _read(self) -> None:
        data = await self.answer.content.readany()
        assert data, "the stream ended"
        self._events += self._reader.feed(data)


@asynccontextmanager
async def streamed(
    api: ApiServer, path: str, *, key: str = ADMIN_KEY, **headers: str
) -> AsyncIterator[Stream]:
    """A stream that is read; `headers` by name with `_` for `-`."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"} | sent) as session,
        session.get(api.url + path) as answer,
    ):
        assert answer.status == 200, await answer.text()
        yield Stream(answer)


async def read(api: ApiServer, path: str, **headers: str) -> list[ServerEvent]:
    """All events of a stream that ends."""
    async with streamed(api, path, **headers) as stream:
        return await stream.rest()
