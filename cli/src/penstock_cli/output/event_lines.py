"""Prints events as they come: a line each for a person, or as JSON or YAML, a document each."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import typer

from penstock_cli.output.colour import coloured
from penstock_cli.output.documents import Form, print_streamed
from penstock_cli.output.event_sentences import sentence
from penstock_cli.output.printing import plain, write
from penstock_client.calls.events import EventEntry
from penstock_client.documents import EventDocument, EventGapDocument

#: By the last word of a type; others have none.
_COLOURS: Final = {
    "created": "green",
    "running": "green",
    "joined": "green",
    "uncordoned": "green",
    "engine_found": "green",
    "gpu_healthy": "green",
    "failed": "red",
    "lost": "red",
    "engine_lost": "red",
    "gpu_unhealthy": "red",
    "rolled_back": "yellow",
    "paused": "yellow",
    "deleted": "yellow",
    "draining": "yellow",
    "cordoned": "yellow",
    "stop_ordered": "yellow",
    "decided": "cyan",
}
#: The longest type of today, without `penstock.`.
_TYPE_WIDTH: Final = 20


async def print_events(
    events: AsyncGenerator[EventEntry, None], form: Form, *, names: Mapping[str, str]
) -> None:
    """Print all of them; returns at their end, with a remark on stderr if there was none.

    Args:
        events: as the client gives them.
        form: JSON and YAML are each as the api sent it.
        names: `app_name`s of endpoints by id, as far as they are known.
    """
    printer = EventPrinter(colours=coloured(), names=names)
    nothing = True
    async with contextlib.aclosing(events):
        async for entry in events:
            nothing = False
            if form is Form.TEXT:
                write(printer.text(entry) + "\n")
            elif isinstance(entry, EventGapDocument):
                typer.echo(entry.sentence, err=True)
            else:
                print_streamed(entry.raw, form)
    if nothing and form is Form.TEXT:
        typer.echo("nothing to show", err=True)


class EventPrinter:
    """Makes the line of an event; learns what endpoints are called from the events themselves."""

    def __init__(self, *, colours: bool, names: Mapping[str, str]) -> None:
        self._colours = colours
        self._names = dict(names)

    def text(self, entry: EventEntry) -> str:
        """The line for a person: when, what, and a sentence."""
        if isinstance(entry, EventGapDocument):
            return self._styled(entry.sentence, "yellow")
        self._learn(entry)
        what = entry.type.removeprefix("penstock.")
        when = f"{entry.time:%Y-%m-%d %H:%M:%S}Z" if entry.time else "-"
        shown = self._styled(f"{plain(what):{_TYPE_WIDTH}}", _COLOURS.get(what.split(".")[-1]))
        return f"{when}  {shown}  {plain(sentence(entry, self._names))}"

    def _learn(self, event: EventDocument) -> None:
        if event.endpointid and isinstance(event.data, Mapping) and "app_name" in event.data:
            self._names[event.endpointid] = str(event.data["app_name"])

    def _styled(self, text: str, colour: str | None) -> str:
        return typer.style(text, fg=colour) if self._colours and colour else text
