"""Runs as SVG: arrivals, workers and waits over time, with nothing but text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from penstock_cli.simulation.engine import Run
from penstock_cli.simulation.report import percentile

_WIDTH: Final = 900
_HEIGHT: Final = 170
_LEFT: Final = 60
_RIGHT: Final = 16
_TOP: Final = 26
_GAP: Final = 22
_COLUMNS: Final = 240
_COLOURS: Final = ("#c2410c", "#2563eb", "#059669", "#7c3aed", "#ca8a04", "#64748b")

#: Points of a line: (seconds, value), ascending in time.
Line = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart over time."""

    title: str
    lines: Sequence[tuple[str, Line]]


def charts(runs: Sequence[Run]) -> list[Chart]:
    """What is drawn of runs of one trace."""
    end_s = max(run.ended_at for run in runs) or 1.0
    step_s = end_s / _COLUMNS
    return [
        Chart("arrivals per second", [("arrivals", _arrivals(runs[0], step_s))]),
        Chart("workers", [(run.name, _workers(run)) for run in runs]),
        Chart(
            "wait in seconds, 95th percentile", [(run.name, _waits(run, step_s)) for run in runs]
        ),
    ]


def draw(shown: Sequence[Chart], end_s: float) -> str:
    """An SVG document with these charts below each other, over the same seconds."""
    parts: list[str] = []
    names = [name for name, _ in max(shown, key=lambda chart: len(chart.lines)).lines]
    for number, chart in enumerate(shown):
        y = _TOP + number * (_HEIGHT + _TOP + _GAP)
        parts.append(f'<g transform="translate({_LEFT},{y})">{_chart(chart, end_s, names)}</g>')
    height = _TOP + len(shown) * (_HEIGHT + _TOP + _GAP)
    legend = "".join(
        f'<text x="{_LEFT + 140 * i}" y="{height + 6}" fill="{_colour(i)}">{escape(name)}</text>'
        for i, name in enumerate(names)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height + 20}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}{legend}</svg>\n'
    )


def _chart(chart: Chart, end_s: float, names: Sequence[str]) -> str:
    width = _WIDTH - _LEFT - _RIGHT
    most = max((value for _, line in chart.lines for _, value in line), default=0.0) or 1.0
    parts = [f'<text y="-8" font-weight="bold">{escape(chart.title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT * (1 - share)
        parts.append(
            f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" stroke="#e2e8f0"/>'
            f'<text x="-6" y="{y + 4}" text-anchor="end">{most * share:.3g}</text>'
        )
    parts += (
        f'<text x="{width * share}" y="{_HEIGHT + 15}" text-anchor="middle">'
        f"{_clock(end_s * share)}</text>"
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    for name, line in chart.lines:
        number = names.index(name) if name in names else 0
        points = " ".join(
            f"{width * t / end_s:.1f},{_HEIGHT * (1 - value / most):.1f}" for t, value in line
        )
        parts.append(
            f'<polyline fill="none" stroke="{_colour(number)}" stroke-width="1.3" '
            f'points="{points}"/>'
        )
    return "".join(parts)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _clock(seconds: float) -> str:
    return f"{seconds / 3600:.2g} h" if seconds >= 3600 else f"{seconds:.0f} s"


def _workers(run: Run) -> Line:
    """Steps: each number lasts until the next."""
    line: Line = []
    for at, n in run.workers:
        if line:
            line.append((at, line[-1][1]))
        line.append((at, float(n)))
    if line:
        line.append((run.ended_at, line[-1][1]))
    return line


def _arrivals(run: Run, step_s: float) -> Line:
    return [(at, len(times) / step_s) for at, times in _columns(run.trace.arrivals_s, step_s)]


def _waits(run: Run, step_s: float) -> Line:
    line: Line = []
    begin = 0
    for at, times in _columns(run.served_s, step_s):
        waits = sorted(run.waits_s[begin : begin + len(times)])
        begin += len(times)
        line.append((at, percentile(waits, 0.95)))
    return line


def _columns(times: Sequence[float], step_s: float) -> list[tuple[float, Sequence[float]]]:
    """Ascending times cut into columns of `step_s`, empty ones included."""
    columns: list[tuple[float, Sequence[float]]] = []
    begin = number = 0
    while begin < len(times):
        end = begin
        number += 1
        while end < len(times) and times[end] < number * step_s:
            end += 1
        columns.append(((number - 1) * step_s, times[begin:end]))
        begin = end
    return columns
