"""The `penstock` command: its groups, and how it ends."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from penstock_cli.commands.audit import audit
from penstock_cli.commands.context import contexts_app
from penstock_cli.commands.deploy import deploy
from penstock_cli.commands.endpoint import endpoints_app
from penstock_cli.commands.events import events
from penstock_cli.commands.key import keys_app
from penstock_cli.commands.limits import limits
from penstock_cli.commands.node import nodes_app
from penstock_cli.commands.prewarm import prewarms_app
from penstock_cli.commands.product import products_app
from penstock_cli.commands.registry import registry_app
from penstock_cli.commands.usage import usage
from penstock_cli.commands.volume import volumes_app
from penstock_cli.commands.webhook import webhooks_app
from penstock_cli.commands.worker import workers_app
from penstock_cli.doctor.command import doctor
from penstock_cli.exits import CliError
from penstock_cli.local.demo import demo
from penstock_cli.local.init import init
from penstock_cli.local.up import up
from penstock_cli.options import ContextOption
from penstock_cli.output.screen import COLOUR, Colour
from penstock_cli.simulation.command import simulate
from penstock_cli.top.command import top

app = typer.Typer(
    name="penstock",
    help="Serverless GPU workers on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(up)
app.command()(deploy)
app.command()(top)
app.command()(init)
app.command()(demo)
app.command()(simulate)
app.command()(usage)
app.command()(audit)
app.command()(limits)
app.command()(events)
app.command()(doctor)
app.add_typer(endpoints_app, name="endpoint")
app.add_typer(workers_app, name="worker")
app.add_typer(nodes_app, name="node")
app.add_typer(volumes_app, name="volume")
app.add_typer(prewarms_app, name="prewarm")
app.add_typer(products_app, name="product")
app.add_typer(keys_app, name="key")
app.add_typer(registry_app, name="registry")
app.add_typer(contexts_app, name="context")
app.add_typer(webhooks_app, name="webhook")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {version('penstock-cli')}")
        raise typer.Exit


@app.callback()
def _penstock(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
    colour: Annotated[
        Colour, typer.Option("--color", help="When output is coloured; auto = on a terminal.")
    ] = Colour.AUTO,
    context: ContextOption = None,
) -> None:
    """Serverless GPU workers on your own machines."""
    COLOUR.set(colour)


def main() -> None:
    """Run the command; it exits with an `ExitCode`."""
    try:
        app(prog_name="penstock")
    except CliError as error:
        typer.echo(f"penstock: {error}", err=True)
        sys.exit(error.code)
