"""From the audit trail to what a client that follows it is shown [pure].

A record is stored twice: as an attempt, and in its place, with a new sequence, with its outcome. A
reader that goes on behind the attempt's sequence is shown the outcome too, with the same id. Most
requests take milliseconds, so an attempt is held back for a moment: then it is told once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_api.audit.documents import record_document
from penstock_api.audit.reader import AuditFilter, StoredRecord
from penstock_client.documents import AuditGapDocument
from penstock_common.nats.stream_reader import Bounds

#: An attempt that is no older is held back: its outcome is about to take its place.
HELD_BACK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class WantedRecords:
    """What a client wants to follow. Of the beginnings the first that is given counts.

    Without one, who follows begins with what happens from now on, who does not with the first record
    that is kept.
    """

    #: its `since` is the second of the beginnings
    filter: AuditFilter
    #: go on when all that there is was shown
    follow: bool
    #: begin behind this sequence
    position: int | None = None
    #: begin with the last ones, so many
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class TrailPage:
    """Records in the order of the stream."""

    stored: tuple[StoredRecord, ...]
    #: sequence up to which this page has seen
    upto: int
    #: there was more in the stream when it was read
    more: bool
    #: what the page before it and this one have between them that is lost
    gap: AuditGapDocument | None = None


@dataclass(frozen=True, slots=True)
class ShownRecords:
    """What a reader is to be told at one moment; often nothing."""

    #: before the records
    gap: AuditGapDocument | None = None
    #: oldest first
    stored: tuple[StoredRecord, ...] = ()
    #: all up to this sequence was shown, records that are not wanted included
    position: int | None = None

    def entries(self) -> Iterator[tuple[int, str]]:
        """Sequence and JSON of each record."""
        return ((s.sequence, record_document(s.record).model_dump_json()) for s in self.stored)


def held_back_s(stored: Iterable[StoredRecord], now: datetime) -> float:
    """Seconds for which these are not told yet, as one of them is an attempt of just now."""
    ages = ((now - s.record.at).total_seconds() for s in stored if s.record.status is None)
    # The clock of the api that wrote it may be ahead; nobody waits longer for that.
    return max(
        (min(HELD_BACK_S - age, HELD_BACK_S) for age in ages if age < HELD_BACK_S), default=0
    )


def find_trail_gap(position: int, bounds: Bounds) -> AuditGapDocument | None:
    """What a reader that has seen up to `position` has certainly missed; None = nothing is certain.

    That the first record which is kept is a later one proves nothing: those before it may be attempts
    whose outcomes have taken their places. But nothing takes the place of the last.
    """
    if position > bounds.last:
        return AuditGapDocument(first=None, last=None, why="renewed")
    if position < bounds.last and bounds.first > bounds.last:
        return AuditGapDocument(first=position + 1, last=bounds.last, why="expired")
    return None
