"""`penstock worker`: what runs."""

from typing import Annotated, Final

import typer

from penstock_cli.commands.endpoint_names import app_names_of
from penstock_cli.completion import complete_endpoints, complete_nodes, complete_workers
from penstock_cli.exits import CliError
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.printing import plain
from penstock_cli.output.workers import print_worker, print_workers, stop_progress
from penstock_cli.session import Session, with_session
from penstock_client.documents import WorkerDocument, WorkerList
from penstock_client.sync.client import PenstockSyncClient
from penstock_common.states import WorkerState

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

    def question(client: PenstockSyncClient) -> tuple[WorkerList, dict[str, str]]:
        listed = client.workers.list(app, node=node, state=state).whole()
        endpoints = {worker.endpoint_id for worker in listed.workers}
        return listed, app_names_of(client, endpoints) if session.form is Form.TEXT else {}

    listed, app_names = session.ask(question)
    session.show(
        listed,
        lambda listed: print_workers(
            [(app_names.get(w.endpoint_id, w.endpoint_id), w) for w in listed.workers]
        ),
    )


@with_session
def show(
    session: Session,
    worker: Worker,
) -> None:
    """Show one worker: how far it is, what it does, and how its start went."""

    def question(client: PenstockSyncClient) -> tuple[WorkerDocument, dict[str, str]]:
        shown = client.workers.show(worker)
        return shown, app_names_of(client, {shown.endpoint_id})

    shown, app_names = session.ask(question)
    session.show(shown, lambda shown: print_worker(shown, app_names.get(shown.endpoint_id)))


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

    def question(client: PenstockSyncClient) -> WorkerDocument:
        ordered = client.workers.stop(worker, reason, deadline_s=deadline_s)
        told = ""

        def tell(seen: WorkerDocument) -> None:
            nonlocal told
            line = stop_progress(seen)
            if line != told:
                told = line
                typer.echo(plain(line), err=session.form is not Form.TEXT)

        if wait:
            client.workers.wait_until_gone(worker, timeout_s=wait_timeout, tell=tell)
        return ordered

    ordered = session.ask(question)
    session.tell(ordered, f"{worker} is gone" if wait else stop_progress(ordered))
