"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from penstock_cli.completion import complete_contexts
from penstock_cli.exits import CliError
from penstock_cli.input.durations import parse_duration

ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api",
        envvar="PENSTOCK_API_URL",
        metavar="URL",
        help="The api; left out = that of the context, or of `penstock up` here.",
        show_default=False,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        envvar="PENSTOCK_CONTEXT",
        metavar="NAME",
        help="The installation, as `penstock context list` names it.",
        show_default=False,
        autocompletion=complete_contexts,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="PENSTOCK_DATA",
        metavar="DIR",
        help="Data directory of `penstock up`, for URL and key.",
        show_default=".penstock",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YamlOption = Annotated[bool, typer.Option("--yaml", help="Print YAML.")]
FileOption = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="YAML or JSON document; - = standard input.",
        show_default=False,
    ),
]
WaitTimeoutOption = Annotated[
    float,
    typer.Option("--wait-timeout", min=0.1, metavar="SECONDS", help="Longest wait, in seconds."),
]


def seconds_of(duration: str, option: str) -> int:
    """The seconds that a duration such as `30d` is.

    Args:
        duration: what was written.
        option: where, e.g. `--expires-in`.

    Raises:
        CliError: it is none.
    """
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise CliError(f"{option}: {error}") from None
