"""Prints lines of workers as they come: for a person, or as JSON or YAML, a document each."""

import contextlib
import sys
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Final

import typer

from penstock_cli.output.colour import coloured
from penstock_cli.output.documents import Form, print_streamed
from penstock_cli.output.printing import plain, write
from penstock_client.documents import (
    LogEndDocument,
    LogEntryDocument,
    LogGapDocument,
)

FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with the lines that come.")
]
TailOption = Annotated[
    int | None,
    typer.Option(min=0, max=10_000, metavar="N", help="Begin with the last N lines."),
]

_COLOURS: Final = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is how one leaves a stream: no word about it."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def print_logs(
    lines: AsyncGenerator[LogEntryDocument | LogEndDocument, None],
    form: Form,
    *,
    with_workers: bool,
) -> None:
    """Print all of them; returns at their end."""
    printer = LinePrinter(
        colours=coloured(), terminal=sys.stdout.isatty(), with_workers=with_workers
    )
    async with contextlib.aclosing(lines):
        async for document in lines:
            if isinstance(document, LogEndDocument):
                if document.why == "gone":
                    typer.echo("the worker is gone, and its node said no more", err=True)
                return
            if form is Form.TEXT:
                write(printer.text(document) + "\n")
            else:
                print_streamed(document.raw, form)


class LinePrinter:
    """Makes the text of a line; workers have colours in the order in which they come."""

    def __init__(self, *, colours: bool, terminal: bool, with_workers: bool) -> None:
        """Whether there are colours, and whether control characters of a worker are kept out."""
        self._colours = colours
        self._terminal = terminal
        self._with_workers = with_workers
        self._workers: dict[str, str] = {}

    def text(self, document: LogEntryDocument) -> str:
        """The text for a person."""
        if isinstance(document, LogGapDocument):
            return self._prefix(document.worker_id) + self._styled(document.sentence, "yellow")
        text = plain(document.text) if self._terminal else document.text
        text += " …" if document.cut else ""
        colour = "red" if document.stream == "stderr" else None
        return self._prefix(document.worker_id) + self._styled(text, colour)

    def _prefix(self, worker_id: str) -> str:
        if not self._with_workers:
            return ""
        colour = self._workers.setdefault(worker_id, _COLOURS[len(self._workers) % len(_COLOURS)])
        return self._styled(worker_id, colour) + " "

    def _styled(self, text: str, colour: str | None) -> str:
        return typer.style(text, fg=colour) if self._colours and colour else text
