"""The routers' last reports, kept until they are no news any more."""

from collections.abc import Mapping
from types import MappingProxyType

from penstock_common.messages import QueueReport
from penstock_scheduler.snapshot import REPORT_MAX_AGE_S, HeardReport


class ReportBook:
    """The last report of each router on each endpoint."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, HeardReport]] = {}
        self._view = MappingProxyType(self._last)

    @property
    def reports(self) -> Mapping[str, Mapping[str, HeardReport]]:
        """Endpoint id → router id → last report, a live view."""
        return self._view

    def hear(self, report: QueueReport, now: float) -> bool:
        """Keep a report that came at `now`; gives whether it calls for a decision at once.

        It does when requests wait here and the queue is another than before, or when a worker
        that gives out no slots has become empty (it may be one that drains).
        """
        of_endpoint = self._last.setdefault(report.endpoint_id, {})
        before = of_endpoint.get(report.router_id)
        of_endpoint[report.router_id] = HeardReport(report, now)
        if report.waiting and (before is None or before.report.waiting != report.waiting):
            return True
        known = _emptied(before.report) if before else set()
        return not _emptied(report) <= known

    def forget_old(self, now: float) -> None:
        """Drop what no snapshot would count any more."""
        for endpoint_id, of_endpoint in list(self._last.items()):
            for router_id, heard in list(of_endpoint.items()):
                if now - heard.heard_at > REPORT_MAX_AGE_S:
                    del of_endpoint[router_id]
            if not of_endpoint:
                del self._last[endpoint_id]


def _emptied(report: QueueReport) -> set[tuple[str, int]]:
    return {
        (load.worker_id, load.assignment_revision)
        for load in report.workers
        if not load.accepting and not load.in_flight
    }
