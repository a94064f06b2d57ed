# Made by libs/client/make_sync.py of penstock_client/calls/logs.py: change that one.
"""Lines of workers as they come."""

from collections.abc import Generator, Mapping
from typing import Final, TypeAlias

from penstock_client.api_requests import with_query
from penstock_client.documents import (
    LogEndDocument,
    LogEntryDocument,
    LogGapDocument,
    LogLineDocument,
)
from penstock_client.sse import ServerEvent
from penstock_client.stream_documents import parse_event
from penstock_client.sync.transport import Transport

LogDocument: TypeAlias = LogEntryDocument | LogEndDocument

_KINDS: Final[Mapping[str, type[LogDocument]]] = {
    "line": LogLineDocument,
    "missing": LogGapDocument,
    "end": LogEndDocument,
}


def follow_logs(
    transport: Transport, path: str, *, follow: bool, tail: int | None
) -> Generator[LogDocument, None, None]:
    """The lines of what has this path, gaps, and at last an end."""
    asked = with_query(f"{path}/logs", {"follow": follow, "tail": tail})
    return transport.follow(asked, _document, lambda seen: isinstance(seen, LogEndDocument))


def _document(event: ServerEvent) -> LogDocument | None:
    return parse_event(event, _KINDS)
