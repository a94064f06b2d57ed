"""Follows the audit trail for clients, as `event_reader.py` does the events."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from penstock_api.audit.following import (
    ShownRecords,
    TrailPage,
    WantedRecords,
    find_trail_gap,
    held_back_s,
)
from penstock_api.audit.reader import (
    MARGIN,
    AuditFilter,
    AuditReader,
    StoredRecord,
    decode_records,
)
from penstock_api.following import Following, follow_stream, resume_behind
from penstock_api.open_streams import OpenStreams
from penstock_client.documents import AuditEndDocument, AuditGapDocument
from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.nats.connection import Bus
from penstock_common.nats.stream_reader import StreamReader

#: Pauses between looks whether the outcome of an attempt is there: the first, and the longest.
_FIRST_LOOK_S: Final = 0.01
_LAST_LOOK_S: Final = 0.2


class AuditFollower:
    """Makes readers that go on."""

    def __init__(self, bus: Bus, reader: AuditReader, opened: OpenStreams, clock: Clock) -> None:
        self._stream = StreamReader(bus, subjects.AUDIT)
        self._reader = reader
        self._opened = opened
        self._clock = clock

    def read(self, wanted: WantedRecords) -> AsyncGenerator[ShownRecords | AuditEndDocument, None]:
        """The records as they come; about once a second, while none does, nothing.

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
                fetch=lambda after, gap: self._settled(after, wanted.filter, gap),
                find_gap=find_trail_gap,
                show=lambda page: ShownRecords(page.gap, page.stored, page.upto),
                nothing=ShownRecords(),
                end=None if wanted.follow else AuditEndDocument(),
            ),
        )

    async def _begin(self, wanted: WantedRecords) -> ShownRecords:
        bounds = await self._stream.bounds()
        if wanted.position is not None:
            position = resume_behind(wanted.position, bounds)
            return ShownRecords(find_trail_gap(wanted.position, bounds), position=position)
        if wanted.filter.since is not None:
            page = await self._stream.since(
                wanted.filter.since - MARGIN, wanted.filter.pattern, messages=1
            )
            return ShownRecords(position=bounds.last if page.upto is None else page.upto - 1)
        if wanted.tail is not None:
            last = await self._tail(wanted.filter, wanted.tail, bounds.last)
            return ShownRecords(stored=last, position=bounds.last)
        return ShownRecords(position=bounds.last if wanted.follow else bounds.first - 1)

    async def _tail(self, wanted: AuditFilter, count: int, last: int) -> tuple[StoredRecord, ...]:
        """The last records up to this sequence, oldest first, however far back they lie."""
        found: list[StoredRecord] = []
        below: int | None = last + 1
        while below is not None and len(found) < count:
            page = await self._reader.page(wanted, count - len(found), below)
            found += page.stored
            below = page.below
        return tuple(reversed(found))

    async def _settled(
        self, after: int, wanted: AuditFilter, gap: AuditGapDocument | None
    ) -> TrailPage:
        """The page behind this sequence, once the outcomes of its newest attempts are there.

        One whose outcome does not come in time is told as attempted.
        """
        look_s = _FIRST_LOOK_S
        while True:
            page = await self._page(after, wanted, gap)
            wait_s = held_back_s(page.stored, self._clock.utc())
            if wait_s <= 0 or self._opened.closing:
                return page
            await asyncio.sleep(min(look_s, wait_s))
            look_s = min(2 * look_s, _LAST_LOOK_S)

    async def _page(
        self, after: int, wanted: AuditFilter, gap: AuditGapDocument | None
    ) -> TrailPage:
        page = await self._stream.after(after, wanted.pattern)
        stored = tuple(s for s in decode_records(page.messages) if wanted.wants(s.record))
        return TrailPage(stored, after if page.upto is None else page.upto, page.more, gap)
