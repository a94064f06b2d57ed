"""Events: CloudEvents 1.0 in their JSON format, and what is missing between them."""

from typing import Any, Literal

from pydantic import AwareDatetime

from penstock_client.documents.base import Document


class EventDocument(Document):
    """Something that happened (docs/events.md)."""

    specversion: str
    id: str
    #: who tells it, e.g. `/penstock/scheduler`
    source: str
    #: what happened, e.g. `penstock.worker.failed`
    type: str
    #: id of what it is about
    subject: str | None = None
    time: AwareDatetime | None = None
    datacontenttype: str | None = None
    #: id of the endpoint that it concerns
    endpointid: str | None = None
    #: id of the node that it concerns
    nodeid: str | None = None
    #: as the type says
    data: Any = None


class EventList(Document):
    """Events, newest first: a page of them."""

    events: tuple[EventDocument, ...]
    #: begins the next page, of older events; null = there are none
    next_cursor: str | None = None


class EventGapDocument(Document):
    """Events that are missing: some of them may have been wanted."""

    #: their numbers in the stream; null = nobody knows
    first: int | None
    last: int | None
    #: `expired`: older than what is kept; `renewed`: the stream was made anew since
    why: Literal["expired", "renewed"]

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.why == "renewed":
            return "--- the stream of events was made anew: what happened in between is lost ---"
        return "--- events are missing: they are older than what is kept ---"


class EventEndDocument(Document):
    """No more events come: all that there is was shown, as asked for."""

    why: Literal["caught_up"] = "caught_up"
