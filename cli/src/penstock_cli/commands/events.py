"""`penstock events`: what happens, and what has happened."""

from datetime import datetime
from typing import Annotated, Final

import typer

from penstock_cli.exits import CliError
from penstock_cli.input.instants import parse_instant
from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, ask
from penstock_cli.output.event_lines import print_events
from penstock_cli.output.worker_lines import interruptible
from penstock_client.client import PenstockClient
from penstock_common.clock import SystemClock

#: So many of the last events are shown when nothing else is asked for.
_TAIL: Final = 20


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="APP",
            help="Only what concerns this endpoint (app_name or id), its workers included.",
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="Only what concerns this node, the workers on it included.",
            show_default=False,
        ),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only this type, e.g. worker.failed, or all of a kind, e.g. worker.; repeatable.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Begin so long ago (90s, 10m, 2h, 3d), or at a date or RFC 3339 instant.",
            show_default=False,
        ),
    ] = None,
    tail: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1_000,
            metavar="N",
            help=f"Begin with the last N events; without it and --since {_TAIL}.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print CloudEvents in JSON, one a line.")
    ] = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show what happens: endpoints, scaling, workers and nodes."""
    if since is not None and tail is not None:
        raise CliError("give --since or --tail, not both")
    began = _instant(since)
    wanted = [text if text.startswith("penstock.") else f"penstock.{text}" for text in types or ()]

    async def show(client: PenstockClient) -> None:
        names: dict[str, str] = {}
        if not as_json:
            names = {e.id: e.app_name async for e in client.endpoints.list()}
        stream = client.events.follow(
            endpoint=endpoint,
            node=node,
            types=wanted,
            since=began,
            tail=_TAIL if tail is None and began is None else tail,
            until_now=not follow,
        )
        await print_events(stream, as_json=as_json, names=names)

    with interruptible():
        ask(api, data, show)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_instant(text, SystemClock().utc())
    except (ValueError, OverflowError) as error:
        raise CliError(f"--since: {error}") from None
