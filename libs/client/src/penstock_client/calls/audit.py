"""Calls about the audit trail."""

from penstock_client.calls.listing import Listing
from penstock_client.documents import AuditList, AuditRecordDocument
from penstock_client.transport import Transport


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
        return Listing(self._transport, "/v1/audit", AuditList, lambda page: page.records, query)
