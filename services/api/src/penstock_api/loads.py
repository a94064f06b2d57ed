"""The live load of endpoints and workers, from the reports of the routers [pure].

Reports are core messages: nobody keeps them, a lost one is followed by another within a second
while anything happens. So the last one of each router counts, and counts as gone when it is older
than `FRESH_S` on this process's own clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from penstock_api.arrivals import Arrivals
from penstock_common.messages import QueueReport, WorkerLoad
from penstock_common.sketch import Buckets, merge, quantile

#: A report older than this many seconds no longer counts.
FRESH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """Requests of one endpoint over all routers."""

    waiting: int = 0
    in_flight: int = 0
    oldest_wait_s: float = 0.0
    #: time at a worker that half of the recent requests do not exceed, 95 and 99 of 100; None = none
    service_p50_s: float | None = None
    service_p95_s: float | None = None
    service_p99_s: float | None = None
    #: time to the first byte of the answer's body, likewise
    first_byte_p50_s: float | None = None
    first_byte_p95_s: float | None = None
    #: requests that arrived, a second, over the last `arrivals.WINDOW_S`
    arrivals_per_s: float = 0.0


class Times(NamedTuple):
    """What recent requests took at their workers, as sketches."""

    #: from the dispatch to the end of the answer
    service: Buckets
    #: from the dispatch to the first byte of the answer's body
    first_byte: Buckets


class Loads:
    """The last report of each router for each endpoint."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[str, tuple[float, QueueReport]]] = {}
        self._arrivals = Arrivals()

    def note(self, report: QueueReport, now: float) -> None:
        """Take a report that arrived at `now` (monotonic seconds)."""
        self._reports.setdefault(report.endpoint_id, {})[report.router_id] = (now, report)
        self._arrivals.note(report.endpoint_id, report.router_id, report.arrivals_total, now)

    def forget_stale(self, now: float) -> None:
        """Drop what no longer counts, so that endpoints and routers long gone take no room."""
        self._arrivals.forget_stale(now)
        for endpoint_id, by_router in list(self._reports.items()):
            for router_id, (received, _) in list(by_router.items()):
                if now - received > FRESH_S:
                    del by_router[router_id]
            if not by_router:
                del self._reports[endpoint_id]

    def of_endpoint(self, endpoint_id: str, now: float) -> EndpointLoad:
        """Load of this endpoint; all zero when no router reports any."""
        reports = self._fresh(endpoint_id, now)
        times = _times(reports)
        return EndpointLoad(
            waiting=sum(report.waiting for report in reports),
            in_flight=sum(report.in_flight for report in reports),
            oldest_wait_s=max((report.oldest_wait_s for report in reports), default=0.0),
            service_p50_s=quantile(times.service, 0.5),
            service_p95_s=quantile(times.service, 0.95),
            service_p99_s=quantile(times.service, 0.99),
            first_byte_p50_s=quantile(times.first_byte, 0.5),
            first_byte_p95_s=quantile(times.first_byte, 0.95),
            arrivals_per_s=self._arrivals.per_second(endpoint_id, now),
        )

    def times(self, endpoint_id: str, now: float) -> Times:
        """What the recent requests of this endpoint took."""
        return _times(self._fresh(endpoint_id, now))

    def of_workers(self, endpoint_id: str, now: float) -> dict[str, tuple[str, WorkerLoad]]:
        """Worker id → the router that reports it and what it reports, for one endpoint's workers.

        Two routers report the same worker while it is handed over; the later report stays.
        """
        loads: dict[str, tuple[str, WorkerLoad]] = {}
        for report in sorted(self._fresh(endpoint_id, now), key=lambda report: report.sent_at):
            loads |= {load.worker_id: (report.router_id, load) for load in report.workers}
        return loads

    def __len__(self) -> int:
        return sum(len(by_router) for by_router in self._reports.values())

    def _fresh(self, endpoint_id: str, now: float) -> list[QueueReport]:
        reports = self._reports.get(endpoint_id, {}).values()
        return [report for received, report in reports if now - received <= FRESH_S]


def _times(reports: Sequence[QueueReport]) -> Times:
    return Times(
        merge(report.service_times for report in reports),
        merge(report.first_byte_times for report in reports),
    )
