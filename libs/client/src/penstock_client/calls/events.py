"""Calls about events."""

import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from penstock_client.api_requests import with_query
from penstock_client.calls.listing import Listing
from penstock_client.documents import (
    EventDocument,
    EventEndDocument,
    EventGapDocument,
    EventList,
)
from penstock_client.sse import ServerEvent
from penstock_client.stream_documents import parse_event
from penstock_client.transport import Transport

PATH: Final = "/v1/events"

EventEntry: TypeAlias = EventDocument | EventGapDocument

_KINDS: Final[Mapping[str, type[EventEntry | EventEndDocument]]] = {
    "message": EventDocument,
    "missing": EventGapDocument,
    "end": EventEndDocument,
}


class EventCalls:
    """Events: what happens, and what has happened in the last days."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def follow(
        self,
        *,
        endpoint: str | None = None,
        node: str | None = None,
        types: Iterable[str] = (),
        since: datetime | None = None,
        tail: int | None = None,
        until_now: bool = False,
    ) -> AsyncGenerator[EventEntry, None]:
        """What happens from now on, and the word of what is missing, until it is left.

        It goes on over connections that break and restarts of the api, with nothing lost or twice.

        Args:
            endpoint: only what concerns this endpoint (id or `app_name`), its workers included.
            node: only what concerns the node with this id, the workers on it included.
            types: only these, e.g. `penstock.worker.failed`, or beginnings with their dot, e.g.
                `penstock.worker.`; empty = all.
            since: begin with what was told at this instant or later; goes before `tail`.
            tail: begin with the last events, so many.
            until_now: end when all that there is has come; without `since` and `tail` it begins
                with the first event that is kept.

        Raises:
            ApiError: the api refused (404: there is no such endpoint), while iterating.
            UnreachableError: it could not be reached for a minute, while iterating.
        """
        query = {
            **_filters(endpoint, node, types, since),
            "tail": tail,
            "follow": not until_now,
        }
        entries: AsyncGenerator[EventEntry | EventEndDocument, None] = self._transport.follow(
            with_query(PATH, query), _document, lambda seen: isinstance(seen, EventEndDocument)
        )
        async with contextlib.aclosing(entries) as received:
            async for entry in received:
                if not isinstance(entry, EventEndDocument):
                    yield entry

    def list(
        self,
        *,
        endpoint: str | None = None,
        node: str | None = None,
        types: Iterable[str] = (),
        since: datetime | None = None,
        page_size: int | None = None,
    ) -> Listing[EventDocument, EventList]:
        """The events that are kept, newest first.

        Args:
            endpoint: as for `follow`, like the next ones.
            node: which.
            types: which.
            since: only what was told at this instant or later.
            page_size: how many are fetched at once, 1 to 1000; None = 1000.
        """
        query = {**_filters(endpoint, node, types, since), "limit": page_size}
        return Listing(self._transport, PATH, EventList, lambda page: page.events, query)


def _filters(
    endpoint: str | None, node: str | None, types: Iterable[str], since: datetime | None
) -> dict[str, object]:
    return {
        "endpoint": endpoint,
        "node": node,
        "type": tuple(types) or None,
        "since": since.isoformat() if since else None,
    }


def _document(event: ServerEvent) -> EventEntry | EventEndDocument | None:
    return parse_event(event, _KINDS)
