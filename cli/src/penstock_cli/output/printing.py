"""How output gets onto the terminal: tables, summaries, lines and JSON; colour there only."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock_client.documents import Document

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


def print_rows(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    when_empty: str = "nothing to show",
) -> None:
    """A table of plain cells; without rows a remark on stderr."""
    table = grid()
    table.show_header = True
    table.header_style = "bold"
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    if table.row_count:
        print_grid(table)
    else:
        print(when_empty, file=sys.stderr)  # noqa: T201  # a remark, no output


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """A summary, a fact a line; those that are None are left out."""
    table = grid()
    for name, value in facts:
        if value is not None:
            table.add_row(Text(name, style="dim"), cell(value))
    print_grid(table)


def state_cell(state: str, reason: str | None) -> Text:
    """A state in its colour, with the reason for it."""
    text = Text(state, style=_COLOURS.get(state, ""))
    return text.append(f" ({plain(reason)})", style="dim") if reason else text


def cell(value: object) -> Text:
    """A cell; text of others is made plain."""
    return value if isinstance(value, Text) else Text(plain(value))


def grid() -> Table:
    """A table without lines and header."""
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def print_grid(table: Table) -> None:
    """A table on stdout, no wider than the terminal."""
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    _write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def _write(text: str) -> None:
    # A reader that left early (`| head`) is told by click's own handling of EPIPE.
    sys.stdout.write(text)
    sys.stdout.flush()
