"""`penstock node`: the machines, and what an operator wants of them."""

import asyncio
from typing import Annotated, Final

import typer

from penstock_cli.commands.join_token import join_tokens_app
from penstock_cli.commands.node_join import join
from penstock_cli.completion import complete_nodes
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.nodes import drain_progress, print_node, print_nodes
from penstock_cli.output.printing import plain
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, NodeDetail
from penstock_client.errors import ApiError
from penstock_common.states import DesiredState

nodes_app = typer.Typer(help="Nodes: the machines with GPUs.", no_args_is_help=True)
nodes_app.command()(join)
nodes_app.add_typer(join_tokens_app, name="token")

#: Longest wait of `drain --wait`: the longest request and the start of a large image fit in.
DRAINED_TIMEOUT_S: Final = 3_600.0

Node = Annotated[
    str,
    typer.Argument(
        metavar="NODE", help="Id of the node.", show_default=False, autocompletion=complete_nodes
    ),
]
Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Why, for people.", show_default=False),
]


@nodes_app.command("list")
@with_session
def list_nodes(
    session: Session,
) -> None:
    """List the nodes that report, have workers, or have an order."""
    listed = session.ask(lambda client: client.nodes.list().whole())
    session.show(listed, lambda listed: print_nodes(listed.nodes))


@nodes_app.command()
@with_session
def show(session: Session, node: Node) -> None:
    """Show one node, its GPUs and its workers."""

    async def question(client: PenstockClient) -> tuple[NodeDetail, dict[str, str]]:
        shown = await client.nodes.show(node)
        ids = {worker.endpoint_id for worker in shown.worker_details}
        return shown, {e.id: e.app_name for e in await _endpoints(client, ids)}

    shown, app_names = session.ask(question)
    session.show(shown, lambda shown: print_node(shown, app_names))


@nodes_app.command()
@with_session
def cordon(
    session: Session,
    node: Node,
    reason: Reason = None,
) -> None:
    """Let a node take no new worker; those it has run on. Ends a drain."""
    ordered = session.ask(lambda client: client.nodes.cordon(node, reason))
    session.tell(ordered, _outcome(ordered))


@nodes_app.command()
@with_session
def uncordon(session: Session, node: Node) -> None:
    """Let a node take workers again."""
    ordered = session.ask(lambda client: client.nodes.uncordon(node))
    session.tell(ordered, _outcome(ordered))


@nodes_app.command()
@with_session
def drain(
    session: Session,
    node: Node,
    reason: Reason = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Then drain workers though nothing replaces them; left out = wait for ever.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the node is drained, and tell how far it is.")
    ] = False,
    wait_timeout: WaitTimeoutOption = DRAINED_TIMEOUT_S,
) -> None:
    """Move a node's workers elsewhere, each once another runs; no request is interrupted."""

    async def question(client: PenstockClient) -> NodeDetail:
        ordered = await client.nodes.drain(node, reason, deadline_s=deadline)
        if not wait:
            return ordered
        told = ""

        async def tell(seen: NodeDetail) -> None:
            nonlocal told
            line = drain_progress(seen, await _waiting_endpoints(client, seen))
            if line != told:
                told = line
                typer.echo(plain(line), err=session.form is not Form.TEXT)

        return await client.nodes.wait_until_drained(node, timeout_s=wait_timeout, tell=tell)

    drained = session.ask(question)
    if session.form is not Form.TEXT or not wait:
        session.tell(drained, _outcome(drained))


async def _waiting_endpoints(client: PenstockClient, node: NodeDetail) -> list[EndpointDocument]:
    waiting = (w for w in node.worker_details if w.desired is DesiredState.RUNNING)
    return await _endpoints(client, {w.endpoint_id for w in waiting})


async def _endpoints(client: PenstockClient, ids: set[str]) -> list[EndpointDocument]:
    async def find(endpoint_id: str) -> EndpointDocument | None:
        try:
            return await client.endpoints.show(endpoint_id)
        except ApiError as error:
            if error.status == 404:  # it was deleted in between
                return None
            raise

    found = await asyncio.gather(*map(find, sorted(ids)))
    return [endpoint for endpoint in found if endpoint is not None]


def _outcome(node: NodeDetail) -> str:
    n = len(node.workers)
    return f"{node.id} is {node.state}, {n} worker{'' if n == 1 else 's'} on it"


@nodes_app.callback()
def _group() -> None:
    """Nodes: the machines with GPUs."""
