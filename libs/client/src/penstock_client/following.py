"""Documents of a stream of events as they come, over as many connections as it takes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias, TypeVar

import aiohttp

from penstock_client.errors import ApiError, UnreachableError
from penstock_client.sse import EventReader, ServerEvent
from penstock_common.nats_retry import Backoff

T = TypeVar("T")

#: The api shows every 15 s that a stream lives.
SILENCE_S: Final = 45.0
#: So long a stream that broke is tried again before the api counts as unreachable.
PATIENCE_S: Final = 60.0

#: Makes a request for a stream, with these headers.
Ask: TypeAlias = Callable[[dict[str, str]], AbstractAsyncContextManager[aiohttp.ClientResponse]]
#: What a refusal's body says; raises it.
Refuse: TypeAlias = Callable[[aiohttp.ClientResponse], Awaitable[object]]


async def read_events(
    ask: Ask,
    refuse: Refuse,
    parse: Callable[[ServerEvent], T | None],
    is_last: Callable[[T], bool],
    *,
    patience_s: float = PATIENCE_S,
) -> AsyncGenerator[T, None]:
    """What `parse` makes of the events, up to the one that `is_last`.

    A connection that breaks is made again, and goes on behind the last event that came.

    Args:
        ask: makes a request for the stream.
        refuse: raises what an answer that is no stream says.
        parse: of one event; None = it says nothing to this client.
        is_last: whether this ends the stream.
        patience_s: so long the api may be away.

    Raises:
        ApiError: the api refused.
        UnreachableError: for `patience_s` it could not be reached, or it answers what is no stream.
    """
    last_id = ""
    backoff = Backoff(first_s=0.1, cap_s=5.0)
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    while True:
        error: Exception
        try:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            async with contextlib.aclosing(_events(ask, refuse, headers)) as events:
                async for event in events:
                    heard_at = loop.time()
                    backoff.reset()
                    last_id = event.id or last_id
                    parsed = parse(event)
                    if parsed is None:
                        continue
                    yield parsed
                    if is_last(parsed):
                        return
            error = ConnectionResetError("the stream ended before its end")
        except ApiError as refusal:
            if refusal.status < 500:
                raise
            error = refusal
        except (aiohttp.ClientError, OSError, TimeoutError) as broken:
            error = broken
        if loop.time() - heard_at > patience_s:
            if isinstance(error, ApiError):
                raise error
            said = str(error) or type(error).__name__
            raise UnreachableError(f"the stream broke: {said}")
        await asyncio.sleep(backoff.pause_s(1.0))


async def _events(
    ask: Ask, refuse: Refuse, headers: dict[str, str]
) -> AsyncGenerator[ServerEvent, None]:
    reader = EventReader()
    async with ask(headers | {"Accept": "text/event-stream"}) as answer:
        if answer.status != 200 or answer.content_type != "text/event-stream":
            await refuse(answer)
            raise UnreachableError("it answered what is no stream of events")
        while True:
            async with asyncio.timeout(SILENCE_S):
                data = await answer.content.readany()
            if not data:
                return
            for event in reader.feed(data):
                yield event
