"""Documents of a stream of events as they come, over as many connections as it takes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias, TypeVar

from penstock_client.errors import ApiError, UnreachableError
from penstock_client.sse import EventReader, ServerEvent
from penstock_client.wire import BadAddressError, Reply, WireError
from penstock_client.wire_async import Answer
from penstock_common.clock import SystemClock
from penstock_common.nats.retry import Backoff

T = TypeVar("T")

_CLOCK = SystemClock()
#: The api shows every 15 s that a stream lives.
SILENCE_S: Final = 45.0
#: So long a stream that broke is tried again before the api counts as unreachable.
PATIENCE_S: Final = 60.0
_TOO_MANY: Final = 429
_STREAM: Final = "text/event-stream"

#: Makes a request for a stream, with these headers, that may be silent for so many seconds.
Ask: TypeAlias = Callable[[dict[str, str], float], AbstractAsyncContextManager[Answer]]
#: What a refusal says; raises it.
Refuse: TypeAlias = Callable[[Reply], object]


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
    reader = EventReader()
    patience = _Patience(patience_s, _CLOCK.monotonic())
    while True:
        error: WireError | ApiError = WireError("the stream ended before its end", sent=True)
        try:
            # A block that broke off is begun anew; the last id of a whole one counts.
            reader = EventReader(last_id=reader.last_id)
            async with contextlib.aclosing(_bytes(ask, refuse, reader.last_id)) as received:
                async for data in received:
                    # A stream in which nothing happens lives as well.
                    patience.heard(_CLOCK.monotonic())
                    for event in reader.feed(data):
                        parsed = parse(event)
                        if parsed is None:
                            continue
                        yield parsed
                        if is_last(parsed):
                            return
        except (WireError, ApiError) as broken:
            error = broken
        await asyncio.sleep(patience.pause_s(error, _CLOCK.monotonic()))


class _Patience:
    """How long a stream that broke is tried again."""

    def __init__(self, patience_s: float, now: float) -> None:
        self._patience_s = patience_s
        self._heard_at = now
        self._backoff = Backoff(first_s=0.1, cap_s=5.0)

    def heard(self, now: float) -> None:
        """Something came."""
        self._heard_at = now
        self._backoff.reset()

    def pause_s(self, error: WireError | ApiError, now: float) -> float:
        """Seconds to wait before the stream is asked for again.

        Raises:
            ApiError, UnreachableError: another try does not help, or there were enough.
        """
        spent = now - self._heard_at > self._patience_s
        if isinstance(error, ApiError):
            if spent or (error.status < 500 and error.status != _TOO_MANY):
                raise error
            return max(self._backoff.pause_s(1.0), error.retry_after_s or 0.0)
        if spent or isinstance(error, BadAddressError):
            raise UnreachableError(f"the stream broke: {error}")
        return self._backoff.pause_s(1.0)


async def _bytes(ask: Ask, refuse: Refuse, last_id: str) -> AsyncGenerator[bytes, None]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with ask(headers | {"Accept": _STREAM}, SILENCE_S) as answer:
        if answer.status != 200 or not answer.headers.get("content-type", "").startswith(_STREAM):
            refuse(Reply(answer.status, answer.headers, await answer.read()))
            raise UnreachableError("it answered what is no stream of events")
        while data := await answer.read_some():
            yield data
