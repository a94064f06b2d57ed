"""`penstock events`: what happens, and what has happened."""

from datetime import datetime
from typing import Annotated, Final

import typer

from penstock_cli.asking_async import ask_async
from penstock_cli.completion import complete_endpoints, complete_nodes
from penstock_cli.exits import CliError
from penstock_cli.input.instants import parse_instant
from penstock_cli.output.documents import Form
from penstock_cli.output.event_lines import print_events
from penstock_cli.output.worker_lines import interruptible
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_common.clock import SystemClock

#: So many of the last events are shown when nothing else is asked for.
_TAIL: Final = 20


@with_session
def events(
    session: Session,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="APP",
            help="Only what concerns this endpoint (app_name or id), its workers included.",
            autocompletion=complete_endpoints,
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="Only what concerns this node, the workers on it included.",
            autocompletion=complete_nodes,
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
) -> None:
    """Show what happens: endpoints, scaling, workers and nodes; --json prints CloudEvents."""
    if since is not None and tail is not None:
        raise CliError("give --since or --tail, not both")
    began = _instant(since)
    wanted = [text if text.startswith("penstock.") else f"penstock.{text}" for text in types or ()]

    async def show(client: PenstockClient) -> None:
        names: dict[str, str] = {}
        if session.form is Form.TEXT:
            names = {e.id: e.app_name async for e in client.endpoints.list()}
        stream = client.events.follow(
            endpoint=endpoint,
            node=node,
            types=wanted,
            since=began,
            tail=_TAIL if tail is None and began is None else tail,
            until_now=not follow,
        )
        await print_events(stream, session.form, names=names)

    with interruptible():
        ask_async(session, show)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_instant(text, SystemClock().utc())
    except (ValueError, OverflowError) as error:
        raise CliError(f"--since: {error}") from None
