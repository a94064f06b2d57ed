"""Follows a stream of NATS for one client: page after page, and on as more comes.

A reader holds nothing on the server but a plain subscription that wakes it. It reads the next page
when the client has taken the one before, so a slow client costs one page of memory.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic, Protocol, TypeVar

from penstock_api.open_streams import OpenStreams
from penstock_common.errors import PenstockError
from penstock_common.nats.stream_reader import Bounds, StreamReader

logger = logging.getLogger(__name__)

#: A reader that nothing wakes looks for more so often, and whether its client is still there.
TICK_S: Final = 1.0
#: A wake-up may come a moment before what it tells of can be read.
_LOOKS_S: Final = (0.005, 0.02, 0.1)


class FollowedPage(Protocol):
    """A page of a stream."""

    @property
    def upto(self) -> int:
        """Sequence up to which it has seen."""
        ...

    @property
    def more(self) -> bool:
        """There was more in the stream when it was read."""
        ...


class Beginning(Protocol):
    """What a reader of a stream is told first."""

    @property
    def position(self) -> int | None:
        """The sequence behind which it goes on; None does not occur."""
        ...


P = TypeVar("P", bound=FollowedPage)
A = TypeVar("A", bound=Beginning)
E = TypeVar("E")
G = TypeVar("G")


class Pause(Enum):
    """Why there is no page at the moment."""

    #: all that there is was given
    CAUGHT_UP = auto()
    #: NATS could not be asked
    AWAY = auto()


@dataclass(frozen=True, slots=True)
class Following(Generic[A, P, E, G]):
    """How one client follows a stream."""

    #: of the subjects that are wanted
    pattern: str
    #: finds where to begin; what is stored meanwhile comes in the first page
    begin: Callable[[], Awaitable[A]]
    #: gives the page behind a sequence, with what is missing before it
    fetch: Callable[[int, G | None], Awaitable[P]]
    #: what a reader that has seen up to a sequence cannot see any more
    find_gap: Callable[[int, Bounds], G | None]
    #: the answer that a page makes
    show: Callable[[P], A]
    #: the answer when there is no page
    nothing: A
    #: the last answer, once all that there is was given; None = it goes on then
    end: E | None


async def follow_stream(
    stream: StreamReader, opened: OpenStreams, how: Following[A, P, E, G]
) -> AsyncGenerator[A | E, None]:
    """The beginning, then answers as they come, over reconnects.

    About once a second, while there is no page, `nothing`. Without an end it ends when the api stops.

    Args:
        stream: is read.
        opened: counts this reader while it reads.
        how: what it is given, and when it ends.

    Raises:
        TooManyStreamsError: before the beginning.
        PenstockError: NATS is away, before the beginning; later it is waited for.
    """
    woken = asyncio.Event()
    with opened.opened(woken.set):
        subscription = stream.on_append(how.pattern, woken.set)
        try:
            generation = stream.generation
            beginning = await how.begin()
            yield beginning

            async def fetch_on(after: int) -> P:
                nonlocal generation
                connected, gap = stream.generation, None
                if connected != generation:  # the stream may be another one now
                    bounds = await stream.bounds()
                    gap, after = how.find_gap(after, bounds), resume_behind(after, bounds)
                page = await how.fetch(after, gap)
                generation = connected
                return page

            assert beginning.position is not None
            pages = follow(fetch_on, beginning.position, woken=woken, streams=opened, answered=True)
            async with contextlib.aclosing(pages):
                async for page in pages:
                    if not isinstance(page, Pause):
                        yield how.show(page)
                    elif page is Pause.CAUGHT_UP and how.end is not None:
                        yield how.end
                        return
                    else:
                        yield how.nothing
        finally:
            await subscription.close()


def resume_behind(position: int, bounds: Bounds) -> int:
    """The sequence behind which a reader that has seen up to `position` goes on."""
    return 0 if position > bounds.last else position


async def follow(
    fetch: Callable[[int], Awaitable[P]],
    after: int,
    *,
    woken: asyncio.Event,
    streams: OpenStreams,
    answered: bool = False,
) -> AsyncGenerator[P | Pause, None]:
    """Pages as they come, and about once a second a pause while none does.

    It ends when the api stops, and else when its reader closes it.

    Args:
        fetch: gives the page behind a sequence, or behind an earlier one if the stream is another.
        after: the sequence to begin behind.
        woken: is set when there may be more, and when the api stops.
        streams: tells whether it does.
        answered: the client has an answer already, which an error would break off.

    Raises:
        PenstockError: the first page could not be fetched, and the client has no answer yet; else
            it is tried again, as later ones are.
    """
    begun, looks = False, 0
    while not streams.closing:
        if woken.is_set():
            woken.clear()
            looks = 0
        try:
            page = await fetch(after)
        except PenstockError as error:
            if not (begun or answered):
                raise
            logger.info(
                "stream not read, trying again",
                extra={"action": "stream_read_retried", "error": str(error)},
            )
            yield Pause.AWAY
            await _wait(woken, TICK_S)
            continue
        if page.upto != after:
            looks = len(_LOOKS_S)  # what woke us was read
        if page.upto != after or not begun:
            yield page
        begun, after = True, page.upto
        if page.more:
            continue
        yield Pause.CAUGHT_UP
        if looks < len(_LOOKS_S):
            await asyncio.sleep(_LOOKS_S[looks])
            looks += 1
        else:
            await _wait(woken, TICK_S)


async def _wait(woken: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await woken.wait()
