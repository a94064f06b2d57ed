"""What this router counts of requests, as Prometheus text; names as OpenTelemetry has them.

Theory of operation. A series is a list of bucket counts and a sum; a request costs one look-up, one
bisection and one increment. Labels are bounded: methods that are not well known are `_OTHER`, and
endpoints beyond `_MOST_ENDPOINTS` share one name, so a stranger cannot make series.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

#: Seconds; the standard ones, and longer ones for cold starts and long answers.
BUCKETS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0),
)
REQUEST_DURATION: Final = "http_server_request_duration_seconds"
QUEUE_WAIT: Final = "penstock_queue_wait_duration_seconds"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_KNOWN_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
)
_OTHER: Final = "_OTHER"
_MOST_ENDPOINTS: Final = 1_000
_HELP: Final = {
    REQUEST_DURATION: "Seconds from a request's head to the end of its response.",
    QUEUE_WAIT: "Seconds that a request waited for its slot.",
}


class Histogram:
    """Durations in fixed buckets."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(BUCKETS_S, duration_s)] += 1
        self._sum_s += duration_s

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The series as Prometheus writes it; `labels` may be empty."""
        total = 0
        for bound, count in zip((*BUCKETS_S, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}{"," if labels else ""}le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum_s:.6f}"
        yield f"{name}_count{{{labels}}} {total}"


class Metrics:
    """Everything that one router counts."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        self._waits: dict[str, Histogram] = {}
        self._endpoints: set[str] = set()

    def request(self, method: str, app_name: str, status: int, duration_s: float) -> None:
        """Count a request that is over.

        Args:
            method: as the client sent it.
            app_name: of its endpoint; empty = of none.
            status: of the response; 0 = there was none, or it broke off.
            duration_s: from its head to the end of its response.
        """
        key = (method, app_name, status // 100)
        series = self._requests.get(key)
        if series is None:
            series = self._series(*key)
        series.add(duration_s)

    def wait(self, outcome: str, duration_s: float) -> None:
        """Count a ticket that waits no more; `outcome` is one of `TicketOutcome`'s."""
        series = self._waits.get(outcome)
        if series is None:
            series = self._waits[outcome] = Histogram()
        series.add(duration_s)

    def _series(self, method: str, app_name: str, status_class: int) -> Histogram:
        if method not in _KNOWN_METHODS:
            method = _OTHER
        if app_name not in self._endpoints:
            if len(self._endpoints) >= _MOST_ENDPOINTS:
                app_name = _OTHER
            self._endpoints.add(app_name)
        return self._requests.setdefault((method, app_name, status_class), Histogram())

    def text(self) -> str:
        """All series, in Prometheus' text format."""
        lines: list[str] = []
        if self._requests:
            lines += _head(REQUEST_DURATION)
        for (method, app_name, status_class), series in sorted(self._requests.items()):
            labels = f'http_request_method="{method}"'
            if app_name:
                labels += f',penstock_endpoint="{app_name}"'
            # Without a status the request failed: a metric's errors carry `error_type`.
            labels += (
                f',http_response_status_class="{status_class}xx"'
                if status_class
                else ',error_type="broken_off"'
            )
            lines += series.lines(REQUEST_DURATION, labels)
        if self._waits:
            lines += _head(QUEUE_WAIT)
        for outcome, series in sorted(self._waits.items()):
            lines += series.lines(QUEUE_WAIT, f'penstock_ticket_outcome="{outcome}"')
        return "".join(f"{line}\n" for line in lines)


def _head(name: str) -> tuple[str, str]:
    return f"# HELP {name} {_HELP[name]}", f"# TYPE {name} histogram"
