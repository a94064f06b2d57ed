"""Findings as a person reads them."""

from collections.abc import Sequence

from rich.text import Text

from penstock_cli.doctor.findings import Finding
from penstock_cli.output.printing import cell, grid, print_grid


def print_findings(findings: Sequence[Finding]) -> None:
    """What was looked at, a line each; below those that are not well, how to mend them."""
    marks = {"ok": "green", "warning": "yellow", "problem": "red"}
    table = grid()
    for finding in findings:
        mark = Text(finding.level, style=marks[finding.level])
        table.add_row(mark, Text(finding.name, style="dim"), cell(finding.seen))
        if finding.mend:
            table.add_row("", "", cell(f"→ {finding.mend}"))
    print_grid(table)
