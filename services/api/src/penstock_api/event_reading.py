"""From the stream of events to what a client is shown: where to begin, what is missing [pure]."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from penstock_client.documents import EventGapDocument
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.events.filters import EventFilter
from penstock_common.nats.stream_reader import Bounds


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event and its sequence in the stream."""

    sequence: int
    event: CloudEvent

    def json(self) -> str:
        """The event in the JSON format of CloudEvents."""
        return json.dumps(self.event.document, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order of the stream."""

    events: tuple[StoredEvent, ...]
    #: sequence up to which this page has seen
    upto: int
    #: there was more in the stream when it was read
    more: bool
    #: how many were read for it, those that are not wanted included
    n_read: int
    #: what the page before it and this one have between them that is lost
    gap: EventGapDocument | None = None


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """What a client wants to read. Of the beginnings the first that is given counts.

    Without one, who follows begins with what happens from now on, who does not with the first event
    that is kept.
    """

    filter: EventFilter
    #: go on when all that there is was shown
    follow: bool
    #: begin behind this sequence
    position: int | None = None
    #: begin with what was stored at this instant or later
    since: datetime | None = None
    #: begin with the last ones, so many
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reader is to be told at one moment; often nothing."""

    #: before the events
    gap: EventGapDocument | None = None
    #: oldest first
    events: tuple[StoredEvent, ...] = ()
    #: all up to this sequence was shown, events that are not wanted included
    position: int | None = None

    def entries(self) -> Iterator[tuple[int, str]]:
        """Sequence and JSON of each event."""
        return ((stored.sequence, stored.json()) for stored in self.events)


def find_gap(position: int, bounds: Bounds) -> EventGapDocument | None:
    """What a reader that has seen up to `position` cannot see any more; None = nothing."""
    if position > bounds.last:
        return EventGapDocument(first=None, last=None, why="renewed")
    if position + 1 < bounds.first:
        return EventGapDocument(first=position + 1, last=bounds.first - 1, why="expired")
    return None


def find_gap_since(since: datetime, bounds: Bounds) -> EventGapDocument | None:
    """What was stored since then and is not kept any more; None = nothing, as far as is known."""
    if bounds.first == 1 or (since >= bounds.first_at and bounds.first <= bounds.last):
        return None
    return EventGapDocument(first=None, last=bounds.first - 1, why="expired")
