"""`penstock worker`: what runs."""

import asyncio
from typing import Annotated, Final

import typer

from penstock_cli.completion import complete_endpoints, complete_nodes, complete_workers
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.printing import plain
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_cli.output.workers import print_worker, print_workers, stop_progress
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, WorkerDocument, WorkerList
from penstock_client.errors import ApiError
from penstock_common.states import WorkerState

workers_app = typer.Typer(
    help="Workers: the containers that serve endpoints.", no_args_is_help=True
)

#: Endpoints that are asked about a worker at once.
_AT_ONCE: Final = 8
#: Longest wait of `stop --wait`: the longest request usually fits in.
GONE_TIMEOUT_S: Final = 900.0

Worker = Annotated[
    str,
    typer.Argument(
        metavar="WORKER",
        help="Id of the worker.",
        show_default=False,
        autocompletion=complete_workers,
    ),
]


@workers_app.command("list")
@with_session
def list_workers(
    session: Session,
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="app_name or id of an endpoint; left out = all.",
            autocompletion=complete_endpoints,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            metavar="NODE", help="Only those on this node.", autocompletion=complete_nodes
        ),
    ] = None,
    state: Annotated[WorkerState | None, typer.Option(help="Only those in this state.")] = None,
) -> None:
    """List the workers of one endpoint, or of all."""

    async def question(client: PenstockClient) -> tuple[WorkerList, dict[str, str]]:
        listed = await client.workers.list(app, node=node, state=state).whole()
        endpoints = {worker.endpoint_id for worker in listed.workers}
        return listed, await _app_names(client, endpoints) if session.form is Form.TEXT else {}

    listed, app_names = session.ask(question)
    session.show(
        listed,
        lambda listed: print_workers(
            [(app_names.get(w.endpoint_id, w.endpoint_id), w) for w in listed.workers]
        ),
    )


@workers_app.command()
@with_session
def show(
    session: Session,
    worker: Worker,
) -> None:
    """Show one worker: how far it is, what it does, and how its start went."""

    async def question(client: PenstockClient) -> tuple[WorkerDocument, dict[str, str]]:
        shown = await client.workers.show(worker)
        return shown, await _app_names(client, {shown.endpoint_id})

    shown, app_names = session.ask(question)
    session.show(shown, lambda shown: print_worker(shown, app_names.get(shown.endpoint_id)))


@workers_app.command()
@with_session
def stop(
    session: Session,
    worker: Worker,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why, for people.", show_default=False)
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Then stop it with its requests in flight; left out = they all end first.",
            show_default=False,
        ),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Stop it with its requests in flight (--deadline 0).")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is gone.")] = False,
    wait_timeout: WaitTimeoutOption = GONE_TIMEOUT_S,
) -> None:
    """Drain and stop a worker; another one starts if its endpoint needs one."""
    if now and deadline:
        raise CliError("--now is --deadline 0; give one of them")
    deadline_s = 0.0 if now else deadline

    async def question(client: PenstockClient) -> WorkerDocument:
        ordered = await client.workers.stop(worker, reason, deadline_s=deadline_s)
        told = ""

        async def tell(seen: WorkerDocument) -> None:
            nonlocal told
            line = stop_progress(seen)
            if line != told:
                told = line
                typer.echo(plain(line), err=session.form is not Form.TEXT)

        if wait:
            await client.workers.wait_until_gone(worker, timeout_s=wait_timeout, tell=tell)
        return ordered

    ordered = session.ask(question)
    session.tell(ordered, f"{worker} is gone" if wait else stop_progress(ordered))


@workers_app.command("logs")
@with_session
def show_logs(
    session: Session,
    worker: Annotated[
        str,
        typer.Argument(
            metavar="WORKER", help="Id of a worker, ended or not.", autocompletion=complete_workers
        ),
    ],
    follow: FollowOption = False,
    tail: TailOption = None,
) -> None:
    """Show what a worker wrote, stdout and stderr."""

    async def show(client: PenstockClient) -> None:
        endpoint = await _endpoint_of(client, worker)
        lines = client.workers.logs(endpoint, worker, follow=follow, tail=tail)
        await print_logs(lines, session.form, with_workers=False)

    with interruptible():
        session.ask(show)


async def _endpoint_of(client: PenstockClient, worker: str) -> str:
    """The endpoint of a worker, also of one that is gone and has left lines.

    Raises:
        CliError: no endpoint knows it.
    """
    try:
        return (await client.workers.show(worker)).endpoint_id
    except ApiError as error:
        if error.status != 404:
            raise
    turns = asyncio.Semaphore(_AT_ONCE)

    async def knows(endpoint: EndpointDocument) -> bool:
        async with turns:
            try:
                async for _ in client.workers.logs(endpoint.id, worker, tail=0):
                    break
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
        return True

    endpoints = (await client.endpoints.list().whole()).endpoints
    known = await asyncio.gather(*map(knows, endpoints))
    for endpoint, knows_it in zip(endpoints, known, strict=True):
        if knows_it:
            return endpoint.id
    raise CliError(f"there is, and was, no worker '{worker}'", code=ExitCode.NOT_FOUND)


async def _app_names(client: PenstockClient, ids: set[str]) -> dict[str, str]:
    """Id → `app_name` of these endpoints; those that are gone are left out."""
    if len(ids) > 1:
        return {e.id: e.app_name async for e in client.endpoints.list()}
    try:
        return {
            endpoint_id: (await client.endpoints.show(endpoint_id)).app_name for endpoint_id in ids
        }
    except ApiError as error:
        if error.status == 404:
            return {}
        raise
