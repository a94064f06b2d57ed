"""`penstock node`: the machines, and what an operator wants of them."""

from typing import Annotated

import typer

from penstock_cli.commands.endpoint_names import app_names_of
from penstock_cli.completion import complete_nodes
from penstock_cli.output.nodes import print_node, print_nodes
from penstock_cli.session import Session, with_session
from penstock_client.documents import NodeDetail
from penstock_client.sync.client import PenstockSyncClient

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


@with_session
def list_nodes(
    session: Session,
) -> None:
    """List the nodes that report, have workers, or have an order."""
    listed = session.ask(lambda client: client.nodes.list().whole())
    session.show(listed, lambda listed: print_nodes(listed.nodes))


@with_session
def show(session: Session, node: Node) -> None:
    """Show one node, its GPUs and its workers."""

    def question(client: PenstockSyncClient) -> tuple[NodeDetail, dict[str, str]]:
        shown = client.nodes.show(node)
        ids = {worker.endpoint_id for worker in shown.worker_details}
        return shown, app_names_of(client, ids)

    shown, app_names = session.ask(question)
    session.show(shown, lambda shown: print_node(shown, app_names))


@with_session
def cordon(
    session: Session,
    node: Node,
    reason: Reason = None,
) -> None:
    """Let a node take no new worker; those it has run on. Ends a drain."""
    ordered = session.ask(lambda client: client.nodes.cordon(node, reason))
    session.tell(ordered, outcome(ordered))


@with_session
def uncordon(session: Session, node: Node) -> None:
    """Let a node take workers again."""
    ordered = session.ask(lambda client: client.nodes.uncordon(node))
    session.tell(ordered, outcome(ordered))


def outcome(node: NodeDetail) -> str:
    """A sentence: how this node is now."""
    n = len(node.workers)
    return f"{node.id} is {node.state}, {n} worker{'' if n == 1 else 's'} on it"
