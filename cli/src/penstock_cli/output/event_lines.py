"""Prints events as they come: a line each for a person, or as JSON, one document a line."""

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import typer

from penstock_cli.output.event_sentences import sentence
from penstock_cli.output.printing import plain
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
    "decided": "cyan",
}
#: The longest type of today, without `penstock.`.
_TYPE_WIDTH: Final = 20


async def print_events(
    events: AsyncGenerator[EventEntry, None], *, as_json: bool, names: Mapping[str, str]
) -> None:
    """Print all of them; returns at their end.

    Args:
        events: as the client gives them.
        as_json: each as the api sent it.
        names: `app_name`s of endpoints by id, as far as they are known.
    """
    printer = EventPrinter(colours=sys.stdout.isatty(), names=names)
    async with contextlib.aclosing(events):
        async for entry in events:
            if as_json and isinstance(entry, EventGapDocument):
                typer.echo(entry.sentence, err=True)
                continue
            text = json.dumps(entry.raw) if as_json else printer.text(entry)
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


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
