"""Reads the stream of events for clients: as they come, or the newest first, page by page."""

import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Final, NamedTuple

from penstock_api.event_reading import (
    EventPage,
    Shown,
    StoredEvent,
    WantedEvents,
    find_gap,
    find_gap_since,
)
from penstock_api.following import Following, follow_stream, resume_behind
from penstock_api.open_streams import OpenStreams
from penstock_client.documents import EventEndDocument, EventGapDocument
from penstock_common import subjects
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.events.filters import EventFilter
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.stream_reader import StreamReader, sequence_of

logger = logging.getLogger(__name__)

#: A stream is read forwards only. To find the newest events the last so many are looked at, and if
#: too few of them fit, those before them, and so on; many more at once where NATS leaves out most.
_FIRST_LOOK: Final = 1_000
_LOOK_GROWTH: Final = 4
_FEW: Final = 256
#: More than about so many are not read for one page of a list.
MAX_READ: Final = 20_000

Answer = Shown | EventEndDocument


class Newest(NamedTuple):
    """The last events that fit."""

    #: newest first
    events: tuple[StoredEvent, ...]
    #: older ones have lower sequences than this; None = there are none
    before: int | None


class EventReader:
    """Makes readers."""

    def __init__(self, bus: Bus, opened: OpenStreams) -> None:
        self._stream = StreamReader(bus, subjects.EVENTS)
        self._opened = opened

    def read(self, wanted: WantedEvents) -> AsyncGenerator[Answer, None]:
        """What happens as it does; about once a second, while nothing does, nothing.

        The first answer tells the position. Where nothing is followed the last one is an end;
        without one it ends when the api stops.

        Raises:
            TooManyStreamsError: before the first answer.
            PenstockError: NATS is away, before the first answer; later it is waited for.
        """
        return follow_stream(
            self._stream,
            self._opened,
            Following(
                pattern=wanted.filter.pattern,
                begin=lambda: self._begin(wanted),
                fetch=lambda after, gap: self._page(after, wanted.filter, gap),
                find_gap=find_gap,
                show=lambda page: Shown(page.gap, page.events, page.upto),
                nothing=Shown(),
                end=None if wanted.follow else EventEndDocument(),
            ),
        )

    async def newest(
        self,
        wanted: EventFilter,
        count: int,
        *,
        before: int | None = None,
        since: datetime | None = None,
    ) -> Newest:
        """The last events that fit: as many as are wanted or there are.

        It may be fewer, when `MAX_READ` were read to find them; `before` says where to go on.

        Args:
            wanted: which fit.
            count: how many at most.
            before: only those with lower sequences than this; None = up to the last.
            since: only those stored at this instant or later; None = all that are kept.

        Raises:
            PenstockError: NATS is away.
        """
        bounds = await self._stream.bounds()
        first, end = bounds.first, bounds.last + 1
        if before is not None:
            end = min(end, before)
        if since is not None:
            first = max(first, 1 + await self._behind(since, wanted, bounds.last))
        found: list[StoredEvent] = []  # the oldest first
        look, n_read = _FIRST_LOOK, 0
        while end > first and len(found) <= count and n_read < MAX_READ:
            begin = max(first, end - look)
            earlier, n_here = await self._between(begin, end, wanted, most=count + 1)
            found = [*earlier, *found]
            end, n_read = begin, n_read + n_here
            if n_here < _FEW:
                look *= _LOOK_GROWTH
        shown = tuple(found[::-1][:count])
        if len(found) > count:
            return Newest(shown, shown[-1].sequence if shown else end)
        return Newest(shown, end if end > first else None)

    async def _begin(self, wanted: WantedEvents) -> Shown:
        bounds = await self._stream.bounds()
        if wanted.position is not None:
            position = resume_behind(wanted.position, bounds)
            return Shown(find_gap(wanted.position, bounds), position=position)
        if wanted.since is not None:
            position = await self._behind(wanted.since, wanted.filter, bounds.last)
            return Shown(find_gap_since(wanted.since, bounds), position=position)
        if wanted.tail is not None:
            last = await self._tail(wanted.filter, wanted.tail, bounds.last)
            return Shown(events=last, position=bounds.last)
        return Shown(position=bounds.last if wanted.follow else bounds.first - 1)

    async def _tail(self, wanted: EventFilter, count: int, last: int) -> tuple[StoredEvent, ...]:
        """The last events up to this sequence that fit, oldest first, however far back they lie."""
        found: list[StoredEvent] = []
        before: int | None = last + 1
        while before is not None and len(found) < count:
            page = await self.newest(wanted, count - len(found), before=before)
            found += page.events
            before = page.before
        return tuple(reversed(found))

    async def _behind(self, since: datetime, wanted: EventFilter, last: int) -> int:
        """The sequence behind which everything that fits and was stored since then stands."""
        page = await self._stream.since(since, wanted.pattern, messages=1)
        return sequence_of(page.messages[0]) - 1 if page.messages else last

    async def _between(
        self, begin: int, end: int, wanted: EventFilter, *, most: int
    ) -> tuple[Iterable[StoredEvent], int]:
        """Of the events that fit and have these sequences the last, oldest first; how many were read."""
        found: deque[StoredEvent] = deque(maxlen=most)
        after, more, n_read = begin - 1, True, 0
        while more and after < end - 1:
            page = await self._page(after, wanted)
            found.extend(stored for stored in page.events if stored.sequence < end)
            after, more, n_read = page.upto, page.more, n_read + page.n_read
        return found, n_read

    async def _page(
        self, after: int, wanted: EventFilter, gap: EventGapDocument | None = None
    ) -> EventPage:
        page = await self._stream.after(after, wanted.pattern)
        read = (_event(message) for message in page.messages)
        events = tuple(s for s in read if s is not None and wanted.wants(s.event.attributes))
        upto = after if page.upto is None else page.upto
        return EventPage(events, upto, page.more, len(page.messages), gap)


def _event(message: Received) -> StoredEvent | None:
    sequence = sequence_of(message)
    try:
        return StoredEvent(sequence, CloudEvent.of_message(message.headers, message.data))
    except ValueError as error:  # NoCloudEventError, or a header that is no UTF-8
        logger.warning(
            "event cannot be read, skipped",
            extra={"action": "event_unreadable", "sequence": sequence, "error": str(error)},
        )
        return None
