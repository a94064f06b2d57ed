"""Options that several commands share, and what they do with them."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from penstock_cli.exits import CliError, as_cli_error
from penstock_cli.input.durations import parse_duration
from penstock_cli.target import find_target
from penstock_client.client import PenstockClient
from penstock_common.errors import PenstockError

T = TypeVar("T")

DEFAULT_DATA: Final = Path(".penstock")

ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api",
        envvar="PENSTOCK_API_URL",
        metavar="URL",
        help="The api; left out = the running `penstock up`.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="PENSTOCK_DATA",
        metavar="DIR",
        help="Data directory of `penstock up`, for URL and key.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the api's JSON.")]
FileOption = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="JSON document; - = standard input.",
        show_default=False,
    ),
]
WaitTimeoutOption = Annotated[
    float,
    typer.Option("--wait-timeout", min=0.1, metavar="SECONDS", help="Longest wait, in seconds."),
]


def ask(api: str | None, data: Path, question: Callable[[PenstockClient], Awaitable[T]]) -> T:
    """What the api answers.

    Raises:
        CliError: it refused, cannot be reached, or there is no key for it.
    """
    target = find_target(api, data)

    async def connected() -> T:
        async with PenstockClient(target.url, target.key) as client:
            return await question(client)

    try:
        return asyncio.run(connected())
    except PenstockError as error:
        raise as_cli_error(error) from None


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


def read_document(source: str) -> dict[str, Any]:
    """The JSON object in this file, or on standard input for `-`.

    Raises:
        CliError: it cannot be read, or is no JSON object.
    """
    where = "standard input" if source == "-" else source
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise CliError(
            f"{where} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CliError(f"{where} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise CliError(f"{where} holds no JSON object; an endpoint document is one")
    return document


def environment() -> dict[str, str]:
    """The caller's environment, for flags that name a variable alone."""
    return dict(os.environ)
