"""The `penstock` command: what stands before its commands, and how it ends."""

import sys
from typing import Annotated, Any

import typer

from penstock_cli.command_table import COMMANDS
from penstock_cli.exits import CliError
from penstock_cli.late_commands import LateGroup, make_commands
from penstock_cli.options import ContextOption
from penstock_cli.output.colour import COLOUR, Colour


class _Commands(LateGroup):
    """The commands of the table, in the group that typer makes of `app`."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401  # what typer gives to every group
        super().__init__(**{**given, "commands": make_commands(COMMANDS)})


app = typer.Typer(
    name="penstock",
    cls=_Commands,
    help="Serverless GPU workers on your own machines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # as much to load as typer, and no command needs it

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
