"""How output gets onto the terminal: tables, summaries and lines."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from penstock_cli.output.screen import make_console

#: Between two columns.
_GAP: Final = 2
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
    "enabled": "green",
    "failing": "red",
    "disabled": "yellow",
    "delivered": "green",
    "waiting": "cyan",
}


def plain(text: object) -> str:
    """The text without control characters: what a worker wrote must not drive the terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text)).replace("\t", "    ")


def print_line(text: str) -> None:
    """One line on stdout."""
    write(plain(text) + "\n")


def print_text(text: Text) -> None:
    """A line with styles on stdout; text of others in it was made `plain`."""
    make_console().print(text, soft_wrap=True)


def print_rows(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    when_empty: str = "nothing to show",
    *,
    spare: Sequence[str] = (),
) -> None:
    """A table of plain cells; without rows a remark on stderr.

    Args:
        header: name of each column.
        rows: a cell for each column.
        when_empty: the remark.
        spare: columns that a narrow terminal does not show, the first to go first.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        print(when_empty, file=sys.stderr)  # noqa: T201  # a remark, no output
        return
    widths = [
        max(len(name), *(text.cell_len for text in column))
        for name, column in zip(header, zip(*cells, strict=True), strict=True)
    ]
    shown = fitting(dict(zip(header, widths, strict=True)), spare, make_console().width)
    table = grid()
    table.show_header = True
    table.header_style = "bold"
    for name in shown:
        table.add_column(name, overflow="fold")
    places = [header.index(name) for name in shown]
    for row in cells:
        table.add_row(*(row[place] for place in places))
    print_grid(table)


def fitting(widths: Mapping[str, int], spare: Sequence[str], width: int) -> list[str]:
    """The columns to show, in their order [pure].

    Args:
        widths: of each column, in cells.
        spare: columns that may go, the first to go first.
        width: of the terminal. When all spare ones are gone and the table is still too wide, its
            cells are folded.
    """
    shown = dict(widths)
    for name in spare:
        if sum(shown.values()) + _GAP * (len(shown) - 1) <= width:
            break
        shown.pop(name, None)
    return list(shown)


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
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))


def print_grid(table: Table) -> None:
    """A table on stdout, no wider than the terminal."""
    console = make_console()
    with console.capture() as captured:
        console.print(table)
    write("\n".join(line.rstrip() for line in captured.get().split("\n")))


def write(text: str) -> None:
    """Text on stdout, at once."""
    # A reader that left early (`| head`) is told by click's own handling of EPIPE.
    sys.stdout.write(text)
    sys.stdout.flush()
