"""`penstock usage`: the GPU-seconds used, and what they cost."""

from typing import Annotated

import typer

from penstock_cli.output.documents import Form
from penstock_cli.output.printing import print_line, print_rows, write
from penstock_cli.session import Session, with_session
from penstock_client.documents import GroupBy, UsageReport, UsageRow
from penstock_client.usage_csv import csv_text


@with_session
def usage(
    session: Session,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Date or RFC 3339 instant; left out = the beginning of this month (UTC).",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Likewise; left out = now.", show_default=False),
    ] = None,
    group_by: Annotated[GroupBy, typer.Option("--by", help="What is summed.")] = "endpoint",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show the GPU-seconds used by endpoint, API key, GPU product or worker, and their cost."""
    report = session.ask(
        lambda client: client.usage.show(since=since, until=until, group_by=group_by)
    )
    if as_csv and session.form is Form.TEXT:
        write(csv_text(report))
    else:
        session.show(report, _print_table)


def _print_table(report: UsageReport) -> None:
    print_line(f"from {report.from_:%Y-%m-%d %H:%M:%S} to {report.to:%Y-%m-%d %H:%M:%S} UTC")
    header = (report.group_by.upper(), "NAME", "WORKERS", "WORKER-S", "GPU-S", "GPU-H", "COST")
    rows = [_cells(row, row.group or "-", row.name or "-") for row in report.rows]
    print_rows(header, [*rows, _cells(report.total, "total", "")])


def _cells(row: UsageRow, group: str, name: str) -> tuple[object, ...]:
    cost = "-" if row.cost is None else f"{row.cost:.4f}"
    hours = f"{row.gpu_s / 3600:.3f}"
    return group, name, row.workers, f"{row.worker_s:.1f}", f"{row.gpu_s:.1f}", hours, cost
