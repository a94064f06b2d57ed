"""One frame of `penstock top`: rows in columns, cut to the size of a terminal [pure].

Theory of operation. Lines are made by hand and not by tables of `rich`, which measure every cell
of every row: of a thousand endpoints only those that fit are drawn. A column that a narrow terminal
has no room for goes, the least needed first; endpoints get what nodes leave of the height, and
nodes a third of it at least.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from penstock_cli.output.figures import brief, duration, rate
from penstock_cli.output.printing import fitting, plain, state_cell
from penstock_cli.top.rows import (
    EndpointRow,
    GpuRow,
    NodeRow,
    Sample,
    Sums,
    endpoint_rows,
    node_rows,
    sums,
)
from penstock_cli.top.wishes import Wishes

_GAP: Final = 2
#: Columns of names and reasons are no wider, so that figures are seen.
_WIDEST: Final = 28
#: Least lines of a table: its header and a row.
_LEAST: Final = 2
_RIGHT: Final = frozenset(
    {"WORKERS", "IN FLIGHT", "WAITING", "OLDEST", "REQ/S", "P50", "P99", "GPUS", "UTIL", "VRAM"}
    | {"TEMP", "POWER", "LOAD", "MEMORY"}
)
#: Those that a narrow terminal does not show, the first to go first.
_SPARE: Final = ("P50", "OLDEST", "P99", "REASON", "REQ/S", "IN FLIGHT", "WAITING")
_NODE_SPARE: Final = ("MEMORY", "LOAD", "NOTE", "POWER", "TEMP", "WORKERS", "VRAM")


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a frame is made of."""

    #: of the api
    url: str
    #: the last look; None = there was none yet
    sample: Sample | None
    #: the look before
    before: Sample | None
    wishes: Wishes
    #: why the api does not answer, and since when; None = it does
    away: tuple[str, float] | None = None
    #: what the clock on the wall says
    clock: str = ""


def frame(scene: Scene, now: float, *, width: int, height: int | None) -> list[Text]:
    """The lines of a frame, each at most `width` cells.

    Args:
        scene: what is to be seen.
        now: monotonic seconds.
        width: of the terminal.
        height: of the terminal; None = as many lines as there are, without the line of keys.
    """
    lines = [_title(scene)]
    if scene.away is not None:
        lines.append(_away(scene, now))
    if scene.sample is not None:
        lines += [*_header(sums(scene.sample)), Text()]
        room = None if height is None else max(height - len(lines) - 1, 0)
        lines += _tables(scene, scene.sample, room, width)
    if height is not None:
        lines = lines[: max(height - 1, 1)]
        if height > 1:
            lines.append(_foot(scene.wishes))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
    return lines


def _title(scene: Scene) -> Text:
    line = Text()
    line.append("penstock top", style="bold").append(f"  {plain(scene.url)}", style="dim")
    return line.append(f"  {scene.clock}", style="dim") if scene.clock else line


def _away(scene: Scene, now: float) -> Text:
    assert scene.away is not None
    why, since = scene.away
    text = f"no answer for {duration(now - since)}: {plain(why)}"
    if scene.sample is not None:
        text += f"; what is shown is {duration(now - scene.sample.at)} old"
    return Text(text, style="bold red")


def _header(total: Sums) -> list[Text]:
    nodes = Text(f"{total.nodes} node{'s' if total.nodes != 1 else ''}")
    _append_states(nodes, total.nodes_by_state)
    nodes.append(f"   GPUs {total.gpus_held} of {total.gpus} held")
    if total.gpus_unhealthy:
        nodes.append(f", {total.gpus_unhealthy} unhealthy", style="red")
    nodes.append(f"   workers {total.workers_running} running")
    for n, what in ((total.workers_starting, "starting"), (total.workers_draining, "draining")):
        if n:
            nodes.append(f", {n} {what}")
    requests = Text(f"{total.endpoints} endpoint{'s' if total.endpoints != 1 else ''}")
    _append_states(requests, total.endpoints_by_state)
    requests.append(f"   requests {total.in_flight} in flight, ")
    requests.append(f"{total.waiting} waiting", style="yellow" if total.waiting else "")
    if total.waiting:
        requests.append(f" (oldest {duration(total.oldest_wait_s)})")
    requests.append(f", {rate(total.arrivals_per_s)} arrive a second")
    return [nodes, requests]


def _append_states(line: Text, states: Sequence[tuple[str, int]]) -> None:
    for place, (state, n) in enumerate(states):
        line.append(", " if place else " (").append(f"{n} ").append(state_cell(state, None))
    if states:
        line.append(")")


def _tables(scene: Scene, sample: Sample, room: int | None, width: int) -> list[Text]:
    wishes = scene.wishes
    endpoints = endpoint_rows(sample, scene.before, wishes.order, wishes.part)
    nodes = _node_lines(node_rows(sample, wishes.part), width)
    if room is None:
        table = _endpoint_lines(endpoints, wishes, 0, len(endpoints), width)
        return [*table, Text(), *nodes]
    # A table of endpoints has a header, and a line that counts those that are not shown.
    wanted = 1 + max(len(endpoints), 1)
    for_nodes = min(len(nodes), max(room - wanted - 1, room // 3))
    if for_nodes < _LEAST:
        for_nodes = 0
    for_endpoints = room - (for_nodes + 1 if for_nodes else 0)
    fits = max(for_endpoints - 1, 0)
    if len(endpoints) > fits:
        fits = max(fits - 1, 0)
    first = min(wishes.first, max(len(endpoints) - fits, 0))
    lines = _endpoint_lines(endpoints, wishes, first, first + fits, width)[:for_endpoints]
    lines += [Text() for _ in range(for_endpoints - len(lines))]
    if not for_nodes:
        return lines
    shown = nodes[:for_nodes]
    if len(nodes) > for_nodes:
        left = len(nodes) - for_nodes + 1
        shown[-1] = Text(f"… {left} more lines of nodes", style="dim")
    return [*lines, Text(), *shown]


def _endpoint_lines(
    rows: Sequence[EndpointRow], wishes: Wishes, first: int, end: int, width: int
) -> list[Text]:
    if not rows:
        why = (
            f"no endpoint with '{plain(wishes.part)}' in its name"
            if wishes.part
            else "no endpoints"
        )
        return [Text(why, style="dim")]
    cells = [_endpoint_cells(row) for row in rows[first:end]]
    lines = _columns(cells, _SPARE, width, marked=wishes.order)
    before, after = first, len(rows) - min(end, len(rows))
    if before or after:
        lines.append(Text(f"… {before} above, {after} below", style="dim"))
    return lines


def _endpoint_cells(row: EndpointRow) -> dict[str, Text]:
    waits = row.oldest_wait_s is not None
    state = state_cell(row.state, None)
    if row.changed:
        state.stylize("reverse")
    reason = row.reason or ""
    if row.message and row.reason:
        reason = f"{row.reason}: {row.message}"
    return {
        "APP": Text(plain(row.app_name)),
        "STATE": state,
        "WORKERS": Text(f"{row.running}/{row.desired}/{row.most}"),
        "IN FLIGHT": Text(f"{row.in_flight}/{row.slots}"),
        "WAITING": Text(str(row.waiting), style="yellow" if waits else "dim"),
        "OLDEST": Text(_or_dash(row.oldest_wait_s), style="yellow" if waits else "dim"),
        "REQ/S": Text(rate(row.arrivals_per_s), style="" if row.arrivals_per_s else "dim"),
        "P50": Text(_or_dash(row.p50_s)),
        "P99": Text(_or_dash(row.p99_s)),
        "REASON": Text(plain(reason), style="dim"),
    }


def _node_lines(rows: Sequence[NodeRow], width: int) -> list[Text]:
    if not rows:
        return [Text("no nodes report", style="yellow")]
    cells = []
    for row in rows:
        cells.append(_node_cells(row))
        if len(row.each) > 1 or any(holder.startswith("unhealthy") for _, holder, _ in row.each):
            cells += [_gpu_cells(name, holder, gpu) for name, holder, gpu in row.each]
    return _columns(cells, _NODE_SPARE, width)


def _node_cells(row: NodeRow) -> dict[str, Text]:
    return {
        "NODE": Text(plain(row.node_id)),
        "STATE": state_cell(row.state, None),
        "GPUS": Text(f"{row.gpus_held}/{row.gpus}" if row.gpus else "-"),
        **_measures(row.together),
        "WORKERS": Text(str(row.workers)),
        "LOAD": Text(_percent(row.load_ratio)),
        "MEMORY": Text(_percent(row.memory_used_ratio)),
        "NOTE": Text(plain(row.note or ""), style="yellow"),
    }


def _gpu_cells(name: str, holder: str, gpu: GpuRow) -> dict[str, Text]:
    style = "red" if holder.startswith("unhealthy") else "dim"
    return {
        "NODE": Text(f"  {plain(name)}", style="dim"),
        "STATE": Text(),
        "GPUS": Text(),
        **_measures(gpu),
        "WORKERS": Text(),
        "LOAD": Text(),
        "MEMORY": Text(),
        "NOTE": Text(plain(holder), style=style),
    }


def _measures(gpu: GpuRow | None) -> dict[str, Text]:
    if gpu is None:
        return {name: Text("-", style="dim") for name in ("UTIL", "VRAM", "TEMP", "POWER")}
    used = gpu.memory_used_bytes
    vram = "-" if used is None else f"{used / 10**9:.0f}/{gpu.memory_bytes / 10**9:.0f} GB"
    return {
        "UTIL": Text(_percent(gpu.utilization_ratio)),
        "VRAM": Text(vram),
        "TEMP": Text("-" if gpu.temperature_c is None else f"{gpu.temperature_c} °C"),
        "POWER": Text("-" if gpu.power_w is None else f"{gpu.power_w:.0f} W"),
    }


def _columns(
    rows: Sequence[dict[str, Text]], spare: Sequence[str], width: int, marked: str | None = None
) -> list[Text]:
    """A header and a line a row; the last column may be as wide as there is room."""
    if not rows:
        return []
    names = list(rows[0])
    widths = {
        name: max(len(name), *(min(row[name].cell_len, _WIDEST) for row in rows)) for name in names
    }
    shown = fitting(widths, spare, width)
    header = {
        name: Text(name, style="bold reverse" if name == marked else "bold") for name in names
    }
    return [_line(row, shown, widths) for row in (header, *rows)]


def _line(row: dict[str, Text], shown: Sequence[str], widths: dict[str, int]) -> Text:
    line = Text()
    for place, name in enumerate(shown):
        cell = row[name].copy()
        last = place == len(shown) - 1
        if not last:
            cell.truncate(widths[name], overflow="ellipsis")
        room = " " * max(widths[name] - cell.cell_len, 0)
        if name in _RIGHT:
            line.append(room).append(cell)
        else:
            line.append(cell)
            line.append("" if last else room)
        line.append("" if last else " " * _GAP)
    return line


def _foot(wishes: Wishes) -> Text:
    if wishes.typing:
        return Text(f"name: {plain(wishes.part)}▏  enter: keep, escape: all", style="reverse")
    line = Text(f"q quit  s sort ({wishes.order})  / filter  ↑↓ scroll", style="dim")
    if wishes.part:
        line.append(f"  only '{plain(wishes.part)}', escape: all", style="yellow")
    return line


def _or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else brief(seconds)


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"
