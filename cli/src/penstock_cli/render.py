"""What a person reads: short tables and summaries, in colour on a terminal only."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock_cli.doctor.findings import Finding
from penstock_client.documents import (
    Document,
    EndpointDocument,
    RevisionDocument,
    WorkerDocument,
)
from penstock_common.messages import ScaleDecision

#: Lines are not folded or cut when somebody else than a terminal reads them.
_WIDE: Final = 10_000
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOURS: Final = {
    "serving": "green",
    "running": "green",
    "deploying": "cyan",
    "updating": "cyan",
    "pending": "cyan",
    "pulling": "cyan",
    "starting": "cyan",
    "draining": "yellow",
    "ready": "green",
    "cordoned": "yellow",
    "restarting": "cyan",
    "drained": "yellow",
    "lost": "red",
    "paused": "yellow",
    "deleting": "yellow",
    "failed": "red",
}


def plain(text: object) -> str:
    """The text without control characters: what a worker wrote must not drive the terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text)).replace("\t", "    ")


def print_json(document: Document) -> None:
    """The api's JSON on stdout."""
    _write(json.dumps(document.raw, indent=2) + "\n")


def print_line(text: str) -> None:
    """One line on stdout."""
    _write(plain(text) + "\n")


def print_endpoints(endpoints: Sequence[EndpointDocument]) -> None:
    """A table, one endpoint a line."""
    _print_table(
        ("APP", "STATE", "WORKERS", "WAITING", "IN FLIGHT", "REV", "URL", "ID"),
        (
            (
                endpoint.app_name,
                state_cell(endpoint.state, endpoint.reason),
                f"{endpoint.workers_running} of {endpoint.workers.min}-{endpoint.workers.max}",
                endpoint.load.waiting,
                endpoint.load.in_flight,
                endpoint.revision,
                endpoint.url,
                endpoint.id,
            )
            for endpoint in endpoints
        ),
        "no endpoints; make one with `penstock endpoint create`",
    )


def print_endpoint(endpoint: EndpointDocument) -> None:
    """A summary of one endpoint, a fact a line."""
    workers, scaling, load = endpoint.workers, endpoint.scaling, endpoint.load
    gpu = f"{endpoint.gpu.count} x {' or '.join(endpoint.gpu.products) or 'any product'}"
    facts: list[tuple[str, object]] = [
        ("app", endpoint.app_name),
        ("name", endpoint.name if endpoint.name != endpoint.app_name else None),
        ("id", endpoint.id),
        ("url", endpoint.url + (" (public)" if endpoint.public else "")),
        ("state", state_cell(endpoint.state, endpoint.reason)),
        ("message", endpoint.message),
        ("revision", endpoint.revision),
        (
            "canary",
            f"{endpoint.canary.percent} % of the requests, the others for revision "
            f"{endpoint.canary.stable_revision}"
            if endpoint.canary is not None
            else None,
        ),
        ("image", endpoint.image.image),
        ("command", endpoint.image.command),
        ("gpu", gpu if endpoint.gpu.count else "none"),
        (
            "workers",
            (
                f"{endpoint.workers_running} running, {endpoint.workers_starting} starting, "
                f"{endpoint.workers_draining} draining (min {workers.min}, max {workers.max}), "
                f"{workers.max_concurrency} slot{'s' if workers.max_concurrency > 1 else ''} each"
            ),
        ),
        (
            "requests",
            f"{load.in_flight} in flight, {load.waiting} waiting"
            + (f" (oldest {load.oldest_wait_s:.1f} s)" if load.waiting else ""),
        ),
        (
            "service time",
            f"{load.service_p50_s:.3g} s half of them, {load.service_p95_s:.3g} s 95 of 100"
            if load.service_p50_s is not None and load.service_p95_s is not None
            else None,
        ),
        (
            "scaling",
            f"{scaling.type} {scaling.value:g}, idle after {workers.idle_timeout_s:g} s",
        ),
        ("env", ", ".join(sorted(endpoint.env)) or None),
        ("secrets", ", ".join(endpoint.secrets) or None),
        ("exit code", endpoint.exit_code),
        ("next try", endpoint.retry_at),
    ]
    print_facts(facts)
    if endpoint.log_tail:
        print_line("last output of the worker that failed:")
        for line in endpoint.log_tail:
            print_line(f"  | {line}")


def print_workers(workers: Sequence[tuple[str, WorkerDocument]]) -> None:
    """A table, one worker a line, each with the `app_name` of its endpoint."""
    _print_table(
        ("WORKER", "APP", "STATE", "NODE", "GPUS", "REV", "IN FLIGHT", "IDLE", "READY AFTER"),
        (
            (
                worker.id,
                app_name,
                state_cell(worker.state, worker.reason),
                worker.node_id,
                len(worker.gpus),
                worker.revision,
                "-" if worker.in_flight is None else worker.in_flight,
                "-" if worker.idle_s is None else f"{worker.idle_s:.0f} s",
                _milliseconds(worker.phases_ms.get("healthy")),
            )
            for app_name, worker in workers
        ),
        "no workers",
    )


def print_decisions(decisions: Sequence[ScaleDecision]) -> None:
    """A table, one decision a line, the newest last; what it was made on beside the sentence."""
    _print_table(
        ("AT", "WORKERS", "RATE", "SERVICE", "START", "WHY"),
        (
            (
                f"{decision.at:%Y-%m-%d %H:%M:%S}Z",
                f"{decision.before} to {decision.after}",
                *_measured(decision),
                decision.why,
            )
            for decision in reversed(decisions)
        ),
        "no decision yet",
    )


def print_revisions(revisions: Sequence[RevisionDocument]) -> None:
    """A table, one revision a line, the newest last."""
    _print_table(
        ("REV", "AT", "CAUSE", "CHANGES", "WHY"),
        (
            (
                f"{revision.revision}{' (present)' if revision.present else ''}",
                f"{revision.created_at:%Y-%m-%d %H:%M:%S}Z",
                revision.cause,
                _changes(revision),
                revision.why or "-",
            )
            for revision in reversed(revisions)
        ),
        "no revisions",
    )


def print_findings(findings: Sequence[Finding]) -> None:
    """What was looked at, a line each; below those that are not well, how to mend them."""
    marks = {"ok": "green", "warning": "yellow", "problem": "red"}
    table = _table()
    for finding in findings:
        mark = Text(finding.level, style=marks[finding.level])
        table.add_row(mark, Text(finding.name, style="dim"), _cell(finding.seen))
        if finding.mend:
            table.add_row("", "", _cell(f"→ {finding.mend}"))
    _print(table)


def _changes(revision: RevisionDocument) -> str:
    if not revision.changes:
        return "-"
    return ", ".join(
        f"{change.pointer}: {json.dumps(change.before)} to {json.dumps(change.after)}"
        for change in revision.changes
    )


def _measured(decision: ScaleDecision) -> tuple[str, str, str]:
    inputs = decision.inputs
    if inputs is None:
        return "-", "-", "-"
    service = "-" if inputs.service_time_s is None else f"{inputs.service_time_s:.2f} s"
    burst = " burst" if inputs.burst else ""
    return f"{inputs.arrivals_per_s:.2f}/s{burst}", service, f"{inputs.start_s:.1f} s"


def print_rows(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    when_empty: str = "nothing to show",
) -> None:
    """A table of plain cells; without rows a remark on stderr."""
    _print_table(header, rows, when_empty)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """A summary, a fact a line; those that are None are left out."""
    table = _table()
    for name, value in facts:
        if value is not None:
            table.add_row(Text(name, style="dim"), _cell(value))
    _print(table)


def state_cell(state: str, reason: str | None) -> Text:
    """A state in its colour, with the reason for it."""
    text = Text(state, style=_COLOURS.get(state, ""))
    return text.append(f" ({plain(reason)})", style="dim") if reason else text


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else Text(plain(value))


def _table() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def _print_table(header: Sequence[str], rows: Iterable[Sequence[object]], when_empty: str) -> None:
    table = _table()
    table.show_header = True
    table.header_style = "bold"
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    if table.row_count:
        _print(table)
    else:
        print(when_empty, file=sys.stderr)  # noqa: T201  # a remark, no output


def _print(table: Table) -> None:
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    _write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def _write(text: str) -> None:
    # A reader that left early (`| head`) is told by click's own handling of EPIPE.
    sys.stdout.write(text)
    sys.stdout.flush()
