"""A deployment as a few lines of a terminal that are drawn again and again [pure]."""

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from penstock_cli.deployment.progress import Progress, stage_of
from penstock_cli.output.figures import duration, part_of, size
from penstock_cli.output.printing import plain, state_cell
from penstock_client.documents import EndpointDocument, WorkerDocument
from penstock_common.states import EndpointReason, WorkerState

_BAR_WIDTH: Final = 24
#: Fewest lines that a panel has room for.
_LEAST_HEIGHT: Final = 4


def panel(progress: Progress, now: float, *, width: int, height: int) -> list[Text]:
    """The lines of a panel, each at most `width` cells; at most `height` of them.

    Workers of the new revision come first; those that there is no room for are counted.
    """
    lines = [_head(progress, now)]
    if progress.away is not None:
        lines.append(Text(f"  {plain(progress.away)}; still waiting", style="yellow"))
    elif progress.endpoint is not None:
        lines += _troubles(progress.endpoint)
    workers = sorted(progress.workers, key=lambda w: (not progress.is_new(w), w.decided_at, w.id))
    room = max(height, _LEAST_HEIGHT) - len(lines)
    shown = workers if len(workers) <= room else workers[: max(room - 1, 0)]
    several = len({worker.revision for worker in workers}) > 1
    lines += [_worker(progress, worker, now, several=several) for worker in shown]
    if len(shown) < len(workers):
        lines.append(Text(f"  and {len(workers) - len(shown)} more workers", style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[: max(height, _LEAST_HEIGHT)]


def bar(done: int, total: int, width: int = _BAR_WIDTH) -> Text:
    """How much of a whole is there."""
    filled = width if total <= 0 else min(width * done // total, width)
    return Text("━" * filled, style="cyan").append("━" * (width - filled), style="dim")


def _head(progress: Progress, now: float) -> Text:
    endpoint = progress.endpoint
    line = Text().append(plain(progress.app_name), style="bold")
    if endpoint is not None:
        line.append("  ").append(state_cell(endpoint.state, endpoint.reason))
    old = sorted({w.revision for w in progress.workers if not progress.is_new(w)})
    revisions = f"{', '.join(map(str, old))} → " if old else ""
    line.append(f"  revision {revisions}{progress.revision}")
    return line.append(f"  {duration(now - progress.began_at)}", style="dim")


def _troubles(endpoint: EndpointDocument) -> Iterator[Text]:
    if endpoint.message and endpoint.reason is not EndpointReason.STARTING:
        yield Text(f"  {plain(endpoint.message)}", style="yellow")
    for line in endpoint.log_tail[-2:]:
        yield Text(f"  | {plain(line)}", style="dim")


def _worker(progress: Progress, worker: WorkerDocument, now: float, *, several: bool) -> Text:
    line = Text("  ").append(plain(f"{worker.id} on {worker.node_id}"), style="dim")
    if several:
        style = "" if progress.is_new(worker) else "dim"
        line.append(f"  rev {worker.revision}", style=style)
    line.append("  ").append(state_cell(worker.state, worker.reason))
    if worker.state is WorkerState.PULLING and worker.pull_bytes is not None:
        return line.append(_pull(progress, worker))
    if worker.state is WorkerState.DRAINING:
        return line.append(f"  {worker.in_flight or 0} in flight", style="dim")
    if worker.state is WorkerState.RUNNING and not progress.is_new(worker):
        return line
    if worker.state is WorkerState.STARTING:
        line.append(f"  {plain(stage_of(worker, progress.endpoint))}")
    elif worker.message:
        line.append(f"  {plain(worker.message)}")
    return line.append(f"  {duration(progress.elapsed_s(worker, now))}", style="dim")


def _pull(progress: Progress, worker: WorkerDocument) -> Text:
    done, total = worker.pull_bytes or 0, worker.pull_total_bytes or 0
    line = Text("  ").append(bar(done, total)).append(f"  {part_of(done, total)}")
    per_s = progress.pull_rate(worker)
    if per_s:
        line.append(f"  {size(per_s)}/s")
        if total > done:
            line.append(f"  {duration((total - done) / per_s)} left", style="dim")
    return line
