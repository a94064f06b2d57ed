# Made by libs/client/make_sync.py of penstock_client/calls/audit.py: change that one.
"""Calls about the audit trail."""

import contextlib
from collections.abc import Generator, Mapping
from typing import Final, TypeAlias

from penstock_client.api_requests import with_query
from penstock_client.documents import (
    AuditEndDocument,
    AuditGapDocument,
    AuditList,
    AuditRecordDocument,
)
from penstock_client.sse import ServerEvent
from penstock_client.stream_documents import parse_event
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.transport import Transport

PATH: Final = "/v1/audit"

AuditEntry: TypeAlias = AuditRecordDocument | AuditGapDocument

_KINDS: Final[Mapping[str, type[AuditEntry | AuditEndDocument]]] = {
    "message": AuditRecordDocument,
    "missing": AuditGapDocument,
    "end": AuditEndDocument,
}


class AuditCalls:
    """Who changed what."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        key: str | None = None,
        target: str | None = None,
        action: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
    ) -> Listing[AuditRecordDocument, AuditList]:
        """The requests that changed, or tried to change, something, the newest first.

        Args:
            key: only of this API key or join token; `nobody` = without a good one, `scheduler` or
                `api` = what Penstock changed by itself.
            target: only about this id or name.
            action: only this operation, e.g. `endpoints_update`.
            since: a date or an RFC 3339 instant; only from then on.
            until: likewise; only before it.
            limit: most records of one page.
        """
        query = {
            "key": key,
            "target": target,
            "action": action,
            "since": since,
            "until": until,
            "limit": limit,
        }
        return Listing(self._transport, PATH, AuditList, lambda page: page.records, query)

    def follow(
        self,
        *,
        key: str | None = None,
        target: str | None = None,
        action: str | None = None,
        since: str | None = None,
        tail: int | None = None,
        until_now: bool = False,
    ) -> Generator[AuditEntry, None, None]:
        """The records from now on, oldest first, and the word of what is missing, until it is left.

        It goes on over connections that break and restarts of the api, with nothing lost or twice.
        A request that takes longer than a second comes as attempted (`status` None), and again with
        the same `id` once its outcome is known.

        Args:
            key: as for `list`, like the next two.
            target: which.
            action: which.
            since: a date or an RFC 3339 instant to begin with; goes before `tail`.
            tail: begin with the last records, so many.
            until_now: end when all that there is has come; without `since` and `tail` it begins
                with the first record that is kept.

        Raises:
            ApiError: the api refused, while iterating.
            UnreachableError: it could not be reached for a minute, while iterating.
        """
        query = {
            "key": key,
            "target": target,
            "action": action,
            "since": since,
            "tail": tail,
            "follow": not until_now,
        }
        entries: Generator[AuditEntry | AuditEndDocument, None, None] = self._transport.follow(
            with_query(PATH, query), _document, lambda seen: isinstance(seen, AuditEndDocument)
        )
        with contextlib.closing(entries) as received:
            for entry in received:
                if not isinstance(entry, AuditEndDocument):
                    yield entry


def _document(event: ServerEvent) -> AuditEntry | AuditEndDocument | None:
    return parse_event(event, _KINDS)
