"""`penstock endpoint metrics`: an endpoint's load, now and in the last hour."""

from typing import Annotated

import typer

from penstock_cli.completion import complete_endpoints
from penstock_cli.output.metrics import print_metrics
from penstock_cli.session import Session, with_session


@with_session
def metrics(
    session: Session,
    app: Annotated[
        str,
        typer.Argument(
            metavar="APP",
            help="app_name or id.",
            show_default=False,
            autocompletion=complete_endpoints,
        ),
    ],
    window: Annotated[
        int, typer.Option(metavar="SECONDS", help="How far to look back, a multiple of 10.")
    ] = 3_600,
    step: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            help="Of one point, a multiple of 10; left out = about 60 points.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show an endpoint's load: now, the most, and a plot of the last hour."""
    shown = session.ask(lambda client: client.endpoints.metrics(app, window_s=window, step_s=step))
    session.show(shown, print_metrics)
