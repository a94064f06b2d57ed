"""`penstock top`: the installation as it is, once a second."""

import asyncio
import sys
from typing import Annotated

import typer

from penstock_cli.asking_async import ask_async
from penstock_cli.output.documents import Form, print_document
from penstock_cli.output.printing import print_line, print_text
from penstock_cli.output.screen import make_console
from penstock_cli.session import Session, with_session
from penstock_cli.top.frame import Scene, frame
from penstock_cli.top.looking import View, look
from penstock_cli.top.wishes import Order, Wishes
from penstock_client.client import PenstockClient
from penstock_common.clock import SystemClock

_ORDERS = {"app": Order.NAME, **{o.name.lower().replace("_", "-"): o for o in Order}}


@with_session
def top(
    session: Session,
    part: Annotated[
        str, typer.Argument(metavar="[PART]", help="Only endpoints with this in their name.")
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Sort endpoints by waiting, rate, in-flight, workers, slow, state or name.",
        ),
    ] = "waiting",
    interval: Annotated[
        float, typer.Option(min=0.2, metavar="SECONDS", help="Time between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
) -> None:
    """Show endpoints, nodes and GPUs as they are, again and again.

    Keys: q quits, s sorts by another column, / filters, arrows scroll. In a pipe it is one look.
    """
    order = _ORDERS.get(sort)
    if order is None:
        told = f"'{sort}' is no column; take {', '.join(_ORDERS)}"
        raise typer.BadParameter(told, param_hint="--sort")
    wishes = Wishes(order=order, part=part)
    live = sys.stdout.isatty() and not once and session.form is Form.TEXT
    url = session.find_target().url
    clock = SystemClock()

    async def show_live(client: PenstockClient) -> None:
        await View(client, url, wishes, clock, interval).run(make_console())

    if not live:
        sample = ask_async(session, lambda client: look(client, clock))
        if session.form is not Form.TEXT:
            endpoints = [endpoint.raw for endpoint in sample.endpoints]
            document = {"endpoints": endpoints, "nodes": [node.raw for node in sample.nodes]}
            print_document(document, session.form)
            return
        scene = Scene(url, sample, None, wishes, clock=f"{clock.utc():%H:%M:%S} UTC")
        for line in frame(scene, clock.monotonic(), width=make_console().width, height=None):
            if sys.stdout.isatty():
                print_text(line)
            else:
                print_line(line.plain)
        return
    try:
        ask_async(session, show_live)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
