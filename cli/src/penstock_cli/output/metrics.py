"""An endpoint's load as a person reads it: a line for each measure, with a plot of its past."""

from collections.abc import Callable, Sequence
from typing import Final

from penstock_cli.output.printing import print_line, print_rows
from penstock_client.documents import EndpointMetrics, MetricsPoint

_BARS: Final = "▁▂▃▄▅▆▇█"
Value = float | None


def plot(values: Sequence[Value]) -> str:
    """A bar for each value, the highest full; a blank where there is none."""
    most = max((value for value in values if value is not None), default=0.0)
    return "".join(" " if value is None else _bar(value, most) for value in values)


def _bar(value: float, most: float) -> str:
    if most <= 0 or value <= 0:
        return _BARS[0]
    # What is not nothing is seen: the lowest bar is for nothing.
    return _BARS[max(1, round(value / most * (len(_BARS) - 1)))]


def print_metrics(metrics: EndpointMetrics) -> None:
    """A table, one measure a line."""
    points, load = metrics.points, metrics.load

    def row(name: str, now: Value, unit: str, of: Callable[[MetricsPoint], Value]) -> list[str]:
        values = [of(point) for point in points]
        known = [value for value in values if value is not None]
        if now is None and values:
            now = values[-1]
        return [name, _told(now, unit), _told(max(known, default=None), unit), plot(values)]

    rows = [
        row("requests", None, "/s", lambda p: p.requests_per_s),
        row("waiting", load.waiting, "", lambda p: p.waiting),
        row("oldest wait", load.oldest_wait_s, "s", lambda p: p.oldest_wait_s),
        row("in flight", load.in_flight, "", lambda p: p.in_flight),
        row("errors", None, "", lambda p: p.errors),
        row("refused", None, "", lambda p: p.refused),
        row("p50", load.service_p50_s, "s", lambda p: p.service_p50_s),
        row("p90", None, "s", lambda p: p.service_p90_s),
        row("p99", None, "s", lambda p: p.service_p99_s),
        row("first byte p50", load.first_byte_p50_s, "s", lambda p: p.first_byte_p50_s),
        row("first byte p90", None, "s", lambda p: p.first_byte_p90_s),
        row("first byte p99", None, "s", lambda p: p.first_byte_p99_s),
        *(
            row(f"workers {state}", n, "", lambda p, state=state: p.workers.get(state, 0))  # type: ignore[misc]  # a default argument binds the loop's variable
            for state, n in metrics.workers.items()
            if n or any(point.workers.get(state) for point in points)
        ),
    ]
    print_rows(("", "NOW", "MOST", _past(metrics)), rows)
    if not points:
        print_line("no step is over since the api was started; ask again in a moment")


def _past(metrics: EndpointMetrics) -> str:
    if not metrics.points:
        return "PAST"
    began = metrics.points[0].at
    return f"SINCE {began:%H:%M:%S} UTC, A BAR FOR {metrics.step_s} S"


def _told(value: Value, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} {unit}" if unit else f"{value:.0f}"
