"""`penstock deploy`: endpoints made to be as files say."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from penstock_cli.asking_async import ask_async
from penstock_cli.commands.serving import goes_on
from penstock_cli.deployment.changes import change_lines, headline, plain_lines
from penstock_cli.deployment.documents import DocumentError
from penstock_cli.deployment.plans import Deployment, carry_out, plan_all, read_sources
from penstock_cli.deployment.screens import make_screen
from penstock_cli.deployment.waiting import wait_until_serving
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form, print_document, print_streamed
from penstock_cli.output.printing import plain, print_line, print_text
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import Document, EndpointDocument, PlanDocument

#: As long as a worker may take to start by default.
SERVING_TIMEOUT_S = 900.0

_STYLES = {"+": "green", "-": "red", "~": "yellow", " ": "dim"}


@with_session
def deploy(
    session: Session,
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
) -> None:
    """Create endpoints, or change them to be as documents say, and wait until they serve.

    A document is all that its endpoint is: what it leaves out has its default afterwards. Secrets
    that it does not name stay. ${NAME} in a text is a variable of the environment, $${ is ${.
    """
    try:
        documents = read_sources(_texts(file), settings or (), os.environ)
    except DocumentError as error:
        raise CliError("cannot deploy:", *(f"  {fault}" for fault in error.faults)) from None
    deployments = ask_async(session, lambda client: plan_all(client, documents))
    if session.form is Form.TEXT:
        for deployment in deployments:
            _print_plan(deployment.plan)
    changing = [d.app_name for d in deployments if d.changes]
    if dry_run:
        _print_documents(session, [deployment.plan for deployment in deployments])
        raise typer.Exit(ExitCode.WOULD_CHANGE if changing else ExitCode.DONE)
    asks = session.form is Form.TEXT and sys.stdin.isatty() and sys.stdout.isatty()
    if changing and asks and not yes:
        typer.confirm(f"Deploy {', '.join(changing)}?", abort=True)
    _print_documents(session, _carry_out(session, deployments, None if no_wait else wait_timeout))


def _carry_out(
    session: Session, deployments: Sequence[Deployment], wait_s: float | None
) -> list[EndpointDocument]:
    """The endpoints, carried out one after the other; what comes after one that fails is left."""
    written: list[str] = []

    async def carry_out_all(client: PenstockClient) -> list[EndpointDocument]:
        endpoints = []
        for deployment in deployments:
            endpoint = await carry_out(client, deployment)
            written.append(deployment.app_name)
            endpoints.append(await _finish(session, client, deployment, endpoint, wait_s))
        return endpoints

    try:
        return ask_async(session, carry_out_all)
    except KeyboardInterrupt:
        raise CliError(*_interrupted(deployments, written), code=ExitCode.INTERRUPTED) from None
    except CliError as error:
        left = [d.app_name for d in deployments if d.app_name not in written]
        if not left:
            raise
        raise CliError(str(error), f"  not deployed: {', '.join(left)}", code=error.code) from None


async def _finish(
    session: Session,
    client: PenstockClient,
    deployment: Deployment,
    endpoint: EndpointDocument,
    wait_s: float | None,
) -> EndpointDocument:
    """Say that it is written, and wait until it serves; `wait_s` None = do not wait."""
    for_a_person = session.form is Form.TEXT
    if deployment.changes and for_a_person:
        done = "created" if deployment.plan.creates else "changed"
        print_line(f"{done} {endpoint.app_name} (revision {endpoint.revision})")
    if wait_s is None:
        return endpoint
    screen = make_screen(quiet=not for_a_person)
    endpoint, told = await wait_until_serving(client, endpoint, screen, timeout_s=wait_s)
    if for_a_person:
        print_line(told)
    return endpoint


def _print_documents(session: Session, documents: Sequence[Document]) -> None:
    """Print them for a program; a person was told before."""
    if session.form is Form.TEXT:
        return
    for document in documents:
        if len(documents) == 1:
            print_document(document.raw, session.form)
        else:
            print_streamed(document.raw, session.form)


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


def _print_plan(plan: PlanDocument) -> None:
    if not sys.stdout.isatty():
        for line in plain_lines(plan):
            print_line(line)
        return
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
        lines.append(goes_on(written[-1]))
    left = [d.app_name for d in deployments[len(written) :]]
    if left:
        lines.append(f"  not deployed: {', '.join(left)}")
    return lines or ["interrupted"]
