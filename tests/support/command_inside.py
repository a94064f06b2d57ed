"""The command, run in the test's own process: what it costs to start one many times is saved."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from typer.testing import CliRunner

from penstock_cli.app import app
from penstock_cli.exits import CliError


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


async def run_inside(*arguments: str, env: Mapping[str, str], stdin: str = "") -> Outcome:
    """Run a command in a thread, one at a time; `env` has every PENSTOCK variable that it sees."""
    ours = {name: None for name in os.environ if name.startswith("PENSTOCK")}
    result = await asyncio.to_thread(
        CliRunner().invoke, app, arguments, input=stdin, env={**ours, **env}
    )
    if isinstance(result.exception, CliError):  # as `main` ends then
        error = result.exception
        return Outcome(error.code, result.stdout, f"{result.stderr}penstock: {error}\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
