"""`penstock deploy`: endpoints made to be as files say."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from penstock_cli.deployment.changes import change_lines, headline, plain_lines
from penstock_cli.deployment.documents import DocumentError
from penstock_cli.deployment.plans import Deployment, carry_out, plan_all, read_sources
from penstock_cli.deployment.screens import make_screen
from penstock_cli.deployment.waiting import wait_until_serving
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import (
    DEFAULT_DATA,
    ApiOption,
    DataOption,
    JsonOption,
    WaitTimeoutOption,
    ask,
    environment,
)
from penstock_cli.output.printing import plain, print_json, print_line, print_text
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, PlanDocument

#: As long as a worker may take to start by default.
SERVING_TIMEOUT_S = 900.0

_STYLES = {"+": "green", "-": "red", "~": "yellow", " ": "dim"}


def deploy(
    file: Annotated[
        list[str],
        typer.Option(
            "-f",
            "--file",
            metavar="FILE",
            help="YAML or JSON with endpoint documents; - = standard input; may be repeated.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Set a field of the document, e.g. workers.max=5; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; exit 6 if anything would.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until it serves.")
    ] = False,
    wait_timeout: WaitTimeoutOption = SERVING_TIMEOUT_S,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Create endpoints, or change them to be as documents say, and wait until they serve.

    A document is all that its endpoint is: what it leaves out has its default afterwards. Secrets
    that it does not name stay. ${NAME} in a text is a variable of the environment, $${ is ${.
    """
    try:
        documents = read_sources(_texts(file), settings or (), environment())
    except DocumentError as error:
        raise CliError("cannot deploy:", *(f"  {fault}" for fault in error.faults)) from None
    deployments = ask(api, data, lambda client: plan_all(client, documents))
    _print_plans(deployments, as_json=as_json, dry_run=dry_run)
    changing = [d.app_name for d in deployments if d.changes]
    if dry_run:
        raise typer.Exit(ExitCode.WOULD_CHANGE if changing else ExitCode.OK)
    if changing and not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm(f"Deploy {', '.join(changing)}?", abort=True)
    _carry_out(deployments, None if no_wait else wait_timeout, as_json, api, data)


def _carry_out(
    deployments: Sequence[Deployment],
    wait_s: float | None,
    as_json: bool,
    api: str | None,
    data: Path,
) -> None:
    """Carry out one after the other; what comes after one that fails is left."""
    written: list[str] = []

    async def carry_out_all(client: PenstockClient) -> None:
        for deployment in deployments:
            endpoint = await carry_out(client, deployment)
            written.append(deployment.app_name)
            await _finish(client, deployment, endpoint, wait_s, as_json=as_json)

    try:
        ask(api, data, carry_out_all)
    except KeyboardInterrupt:
        raise CliError(*_interrupted(deployments, written), code=ExitCode.INTERRUPTED) from None
    except CliError as error:
        left = [d.app_name for d in deployments if d.app_name not in written]
        if not left:
            raise
        raise CliError(str(error), f"  not deployed: {', '.join(left)}", code=error.code) from None


async def _finish(
    client: PenstockClient,
    deployment: Deployment,
    endpoint: EndpointDocument,
    wait_s: float | None,
    *,
    as_json: bool,
) -> None:
    """Say that it is written, and wait until it serves; `wait_s` None = do not wait."""
    if deployment.changes and not as_json:
        done = "created" if deployment.plan.creates else "changed"
        print_line(f"{done} {endpoint.app_name} (revision {endpoint.revision})")
    if wait_s is not None:
        screen = make_screen(quiet=as_json)
        endpoint, told = await wait_until_serving(client, endpoint, screen, timeout_s=wait_s)
        if not as_json:
            print_line(told)
    if as_json:
        print_json(endpoint)


def _texts(files: Sequence[str]) -> list[tuple[str, str]]:
    """(what it is called, its text) of each file.

    Raises:
        CliError: one cannot be read.
    """
    texts = []
    for file in files:
        where = "standard input" if file == "-" else file
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise CliError(f"{where} cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise CliError(f"{where} is no text in UTF-8 (byte {error.start})") from None
        texts.append((where, text))
    return texts


def _print_plans(deployments: Sequence[Deployment], *, as_json: bool, dry_run: bool) -> None:
    for deployment in deployments:
        if as_json and dry_run:
            print_json(deployment.plan)
        elif not as_json and sys.stdout.isatty():
            _print_coloured(deployment.plan)
        elif not as_json:
            for line in plain_lines(deployment.plan):
                print_line(line)


def _print_coloured(plan: PlanDocument) -> None:
    print_text(Text(plain(headline(plan)), style="bold"))
    lines = change_lines(plan)
    width = max((len(line.path) for line in lines), default=0)
    for change in lines:
        text = Text(f"  {change.mark} {plain(change.path):<{width}}  ", style=_STYLES[change.mark])
        text.append(plain(change.told))
        if change.replaces_workers:
            text.append("  replaces workers", style="magenta")
        print_text(text)


def _interrupted(deployments: Sequence[Deployment], written: Sequence[str]) -> list[str]:
    lines = []
    if written:
        name = written[-1]
        lines.append(
            f"no longer waiting; the deployment of '{name}' goes on: "
            f"`penstock endpoint show {name}` says how it is"
        )
    left = [d.app_name for d in deployments[len(written) :]]
    if left:
        lines.append(f"  not deployed: {', '.join(left)}")
    return lines or ["interrupted"]
