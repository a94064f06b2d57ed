"""`penstock endpoint metrics`: an endpoint's load, now and in the last hour."""

from typing import Annotated

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.metrics import print_metrics
from penstock_cli.output.printing import print_json


def metrics(
    app: Annotated[str, typer.Argument(metavar="APP", help="app_name or id.", show_default=False)],
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
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show an endpoint's load: now, the most, and a plot of the last hour."""
    shown = ask(
        api, data, lambda client: client.endpoints.metrics(app, window_s=window, step_s=step)
    )
    if as_json:
        print_json(shown)
    else:
        print_metrics(shown)
