"""The terminal that output goes to: its colours and its width."""

import sys
from typing import Final

from rich.console import Console

from penstock_cli.output.colour import coloured

#: Lines are not folded or cut when somebody else than a terminal reads them.
WIDE: Final = 10_000


def make_console(*, markup: bool = False) -> Console:
    """A console on stdout with the colours asked for; very wide where no terminal is.

    Args:
        markup: whether `[green]…[/green]` in a text is a colour.
    """
    colours = coloured()
    return Console(
        width=None if sys.stdout.isatty() else WIDE,
        color_system="standard" if colours else None,
        force_terminal=colours or None,
        highlight=False,
        emoji=False,
        markup=markup,
    )
