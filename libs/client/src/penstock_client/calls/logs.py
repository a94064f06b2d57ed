"""Lines of workers as they come."""

import json
from collections.abc import AsyncGenerator
from typing import TypeAlias

from pydantic import ValidationError

from penstock_client.api_requests import with_query
from penstock_client.documents import (
    LogEndDocument,
    LogEntryDocument,
    LogGapDocument,
    LogLineDocument,
)
from penstock_client.errors import UnreachableError
from penstock_client.sse import ServerEvent
from penstock_client.transport import Transport

LogDocument: TypeAlias = LogEntryDocument | LogEndDocument


def follow_logs(
    transport: Transport, path: str, *, follow: bool, tail: int | None
) -> AsyncGenerator[LogDocument, None]:
    """The lines of what has this path, gaps, and at last an end."""
    asked = with_query(f"{path}/logs", {"follow": follow, "tail": tail})
    return transport.follow(asked, _document, lambda seen: isinstance(seen, LogEndDocument))


def _document(event: ServerEvent) -> LogDocument | None:
    """What an event says; None for one that this client does not know."""
    try:
        match event.name:
            case "line":
                return LogLineDocument.of(json.loads(event.data))
            case "missing":
                return LogGapDocument.of(json.loads(event.data))
            case "end":
                return LogEndDocument.of(json.loads(event.data))
            case _:
                return None
    except (ValueError, ValidationError) as error:
        raise UnreachableError(
            f"the api sent a line that this client does not understand (is it newer?): {error}"
        ) from None
