# Made by libs/client/make_sync.py of penstock_client/calls/usage.py: change that one.
"""Calls about what was used."""

from penstock_client.api_requests import with_query
from penstock_client.documents import GroupBy, UsageReport
from penstock_client.sync.transport import Transport


class UsageCalls:
    """GPU-seconds used, and their cost."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(
        self, *, since: str | None = None, until: str | None = None, group_by: GroupBy = "endpoint"
    ) -> UsageReport:
        """The GPU-seconds used, by group, the largest first.

        Args:
            since: a date or an RFC 3339 instant; None = the beginning of this month.
            until: likewise; None = now.
            group_by: what is summed.
        """
        path = with_query("/v1/usage", {"from": since, "to": until, "group_by": group_by})
        return self._transport.ask(UsageReport, "GET", path)
