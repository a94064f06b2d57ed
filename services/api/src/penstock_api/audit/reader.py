"""Reads the audit trail newest first, in pages.

A stream is read forwards alone. So a page is found by reading windows of sequences from the end of
the stream downwards, each window forwards, and each twice as wide as the one before, as long as
little is found. What a filter asks for may be rare: a page ends after `MAX_READ` records at the
latest, and may then have fewer than were asked for, or none, and still a cursor to go on from.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from penstock_common import subjects
from penstock_common.messages import AuditRecord
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.stream_reader import PAGE_MESSAGES, StreamReader, sequence_of

logger = logging.getLogger(__name__)

#: Records that are read for one page at most.
MAX_READ: Final = 10_000
#: Sequences of the first window; of the widest one.
_FIRST_WINDOW: Final = 128
_WIDEST_WINDOW: Final = 65_536
#: A window with fewer is followed by a wider one.
_FEW: Final = 512
#: A record is stored after its request came, by another clock: so much earlier or later.
MARGIN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; None = all."""

    #: id of an API key or a join token, or `subjects.AUDIT_NOBODY`
    key: str | None = None
    #: id or name of a target
    target: str | None = None
    action: str | None = None
    since: datetime | None = None
    #: not this one itself
    until: datetime | None = None

    @property
    def pattern(self) -> str:
        """Of the subjects of the records of the right key."""
        return subjects.AUDIT_ALL if self.key is None else subjects.audit(self.key, "*")

    def wants(self, record: AuditRecord) -> bool:
        """Whether this record of the right key is one of them."""
        return (
            self.action in (None, record.action)
            and (self.since is None or record.last_at >= self.since)
            and (self.until is None or record.at < self.until)
            and (self.target is None or any(self.target in (t.id, t.name) for t in record.targets))
        )


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record and its sequence in the stream."""

    sequence: int
    record: AuditRecord


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records, newest first."""

    stored: tuple[StoredRecord, ...]
    #: sequence below which the next page begins; None = this is the last
    below: int | None

    @property
    def records(self) -> tuple[AuditRecord, ...]:
        """Without their sequences."""
        return tuple(stored.record for stored in self.stored)


class AuditReader:
    """Asks the stream AUDIT. Calls raise as those of `StreamReader` do."""

    def __init__(self, bus: Bus, *, max_read: int = MAX_READ) -> None:
        """A reader over this connection that reads so many records for a page at most."""
        self._stream = StreamReader(bus, subjects.AUDIT)
        self._max_read = max_read

    async def page(self, wanted: AuditFilter, limit: int, below: int | None) -> AuditPage:
        """The newest records that are wanted, `limit` at most, below this sequence (None = all)."""
        first, last = await self._range(wanted, below)
        found: list[StoredRecord] = []
        width, n_read = _FIRST_WINDOW, 0
        while last >= first and n_read < self._max_read:
            begin = max(first, last - width + 1)
            window = await self._window(wanted, begin, last)
            n_read += len(window)
            for stored in reversed(window):
                if wanted.wants(stored.record):
                    found.append(stored)
                if len(found) == limit:
                    more = stored.sequence > first
                    return AuditPage(tuple(found), stored.sequence if more else None)
            last = begin - 1
            if len(window) < _FEW:
                width = min(2 * width, _WIDEST_WINDOW)
        return AuditPage(tuple(found), last + 1 if last >= first else None)

    async def _range(self, wanted: AuditFilter, below: int | None) -> tuple[int, int]:
        """First and last sequence in which wanted records may lie; first > last when none can."""
        bounds = await self._stream.bounds()
        first, last = bounds.first, bounds.last
        if wanted.since is not None:
            first = await self._first_since(wanted.since - MARGIN) or last + 1
        if wanted.until is not None:
            behind = await self._first_since(wanted.until + MARGIN)
            last = last if behind is None else behind - 1
        return first, last if below is None else min(last, below - 1)

    async def _first_since(self, at: datetime) -> int | None:
        """Sequence of the first record that was stored at or after this instant."""
        return (await self._stream.since(at, subjects.AUDIT_ALL, messages=1)).upto

    async def _window(self, wanted: AuditFilter, begin: int, end: int) -> list[StoredRecord]:
        """The records from `begin` to `end`, of this caller or of all, in the stream's order."""
        found: list[StoredRecord] = []
        seen = begin - 1
        while seen < end:
            n = min(PAGE_MESSAGES, end - seen)
            page = await self._stream.after(seen, wanted.pattern, messages=n)
            found += decode_records(m for m in page.messages if sequence_of(m) <= end)
            if page.upto is None or not page.more:
                break
            seen = page.upto
        return found


def decode_records(messages: Iterable[Received]) -> list[StoredRecord]:
    """The records in these messages; one that cannot be read is left out."""
    found = []
    for message in messages:
        try:
            found.append(StoredRecord(sequence_of(message), AuditRecord.decode(message.data)))
        except ValueError as error:
            logger.error(
                "audit record cannot be read, left out",
                extra={
                    "action": "audit_unreadable",
                    "subject": message.headers.get("Nats-Subject"),
                    "error": str(error),
                },
            )
    return found
