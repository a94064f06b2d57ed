"""What a reader sees: tables in text, all figures in JSON, the main ones in an SVG."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.router.plot import Panel, draw
from benchmarks.router.results import OPEN_LOOP, Goal, Results, goals, handoff_case

Column = tuple[str, Callable[[str], float | None]]


def number(value: float | None) -> str:
    """Whole numbers whole, others with three digits that count; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "never"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it also reads as plain text."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join([first, *rest])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([f"**{title}**", "", line(header), line(rule), *map(line, rows), ""])


def text(results: Results, peers: Sequence[str]) -> str:
    """All tables."""
    parts = [
        *(_closed_loop(results, peers, case) for case in results.cases("closed loop")),
        *(_events(results, peers, case) for case in results.cases("events")),
        _open_loop(results, peers),
        *(_queue(results, peers, case) for case in results.cases("queue")),
        _memory(results, peers),
        _goals(goals(results)),
    ]
    return "\n".join(part for part in parts if part)


def _peer_table(title: str, peers: Sequence[str], columns: Sequence[Column]) -> str:
    rows = []
    for peer in peers:
        values = [value_of(peer) for _, value_of in columns]
        if any(value is not None for value in values):
            rows.append([peer, *map(number, values)])
    return table(title, ["", *(name for name, _ in columns)], rows) if rows else ""


def _column(results: Results, case: str, measure: str) -> Column:
    return measure, lambda peer: results.value(peer, case, measure)


def _ratio(results: Results, case: str, measure: str) -> Column:
    return "haproxy = 1", lambda peer: results.ratio(peer, case, measure)


def _closed_loop(results: Results, peers: Sequence[str], case: str) -> str:
    columns = [
        _column(results, case, "CPU µs/request"),
        _ratio(results, case, "CPU µs/request"),
        *(_column(results, case, name) for name in ("requests/s", "p50 ms", "p99 ms", "errors")),
    ]
    return _peer_table(f"Warm requests: {case}", peers, columns)


def _events(results: Results, peers: Sequence[str], case: str) -> str:
    columns = [
        _column(results, case, "CPU µs/event"),
        _ratio(results, case, "CPU µs/event"),
        *(_column(results, case, name) for name in ("events/s", "reads/event", "errors")),
    ]
    return _peer_table(f"Server-sent {case}", peers, columns)


def _open_loop(results: Results, peers: Sequence[str]) -> str:
    columns: list[Column] = [
        _column(results, OPEN_LOOP, "p50 ms"),
        _column(results, OPEN_LOOP, "p99 ms"),
        ("added p50", lambda peer: results.added(peer, "p50 ms")),
        ("added p99", lambda peer: results.added(peer, "p99 ms")),
        _column(results, OPEN_LOOP, "samples"),
    ]
    rate = results.open_rate_per_s
    return _peer_table(f"Latency at {rate:,.0f} requests/s (open loop)", peers, columns)


def _queue(results: Results, peers: Sequence[str], case: str) -> str:
    times = handoff_case(case)
    columns: list[Column] = [
        _column(results, case, "requests/s"),
        _ratio(results, case, "requests/s"),
        _column(results, case, "CPU µs/request"),
        ("hand-off p50 ms", lambda peer: results.value(peer, times, "p50 ms")),
        ("hand-off p99 ms", lambda peer: results.value(peer, times, "p99 ms")),
        _column(results, case, "most in flight"),
        _column(results, case, "errors"),
    ]
    return _peer_table(f"Queue before a worker with few slots: {case}", peers, columns)


def _memory(results: Results, peers: Sequence[str]) -> str:
    idle, queued = "memory, idle connections", "memory, queued requests"
    columns: list[Column] = [
        ("MB before", lambda peer: results.value(peer, idle, "MB before")),
        ("MB/1,000 idle connections", lambda peer: results.value(peer, idle, "MB/1,000")),
        ("MB/1,000 queued requests", lambda peer: results.value(peer, queued, "MB/1,000")),
    ]
    return _peer_table("Memory", peers, columns)


def _goals(found: Sequence[Goal]) -> str:
    rows = [[goal.what, number(goal.limit), number(goal.measured), goal.verdict] for goal in found]
    return table("Numbers to reach", ["", "at most", "measured", ""], rows)


def write_json(path: Path, results: Results, about: dict[str, object]) -> None:
    """Every figure, over all rounds and of each, with what tells how it was made."""
    document = {
        **about,
        "open_loop_rate_per_s": results.open_rate_per_s,
        "failures": results.failures,
        "goals": [dataclasses.asdict(g) | {"verdict": g.verdict} for g in goals(results)],
        "figures": [dataclasses.asdict(figure) for figure in results.summary()],
        "rounds": [dataclasses.asdict(figure) for figure in results.figures],
    }
    path.write_text(json.dumps(document, indent=1))


def write_plot(path: Path, results: Results, peers: Sequence[str]) -> None:
    """Bars of what costs and what waits."""
    rate = f"{results.open_rate_per_s:,.0f} requests/s"
    wanted = [
        *(("CPU per request, µs", c, "CPU µs/request") for c in results.cases("closed loop")),
        *(("CPU per event, µs", c, "CPU µs/event") for c in results.cases("events")),
        *((f"At {rate}, {measure}", OPEN_LOOP, measure) for measure in ("p50 ms", "p99 ms")),
        *(("Slot freed to next request, p50 ms", c, "p50 ms") for c in results.cases("hand-off")),
    ]
    panels = [
        _panel(f"{title}: {case}", peers, _column(results, case, measure))
        for title, case, measure in wanted
    ]
    path.write_text(draw([panel for panel in panels if panel.bars]))


def _panel(title: str, peers: Sequence[str], column: Column) -> Panel:
    _, value_of = column
    values = ((peer, value_of(peer)) for peer in peers)
    return Panel(title, [(p, v) for p, v in values if v is not None and math.isfinite(v)])
