"""`penstock node`: the machines, and what an operator wants of them."""

import asyncio
from typing import Annotated, Final

import typer

from penstock_cli.commands.join_token import join_tokens_app
from penstock_cli.commands.node_join import join
from penstock_cli.options import (
    DEFAULT_DATA,
    ApiOption,
    DataOption,
    JsonOption,
    WaitTimeoutOption,
    ask,
)
from penstock_cli.output.nodes import drain_progress, print_node, print_nodes
from penstock_cli.output.printing import plain, print_json, print_line
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, NodeDetail
from penstock_client.errors import ApiError
from penstock_common.states import DesiredState

nodes_app = typer.Typer(help="Nodes: the machines with GPUs.", no_args_is_help=True)
nodes_app.command()(join)
nodes_app.add_typer(join_tokens_app, name="token")

#: Longest wait of `drain --wait`: the longest request and the start of a large image fit in.
DRAINED_TIMEOUT_S: Final = 3_600.0

Node = Annotated[str, typer.Argument(metavar="NODE", help="Id of the node.", show_default=False)]
Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Why, for people.", show_default=False),
]


@nodes_app.command("list")
def list_nodes(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the nodes that report, have workers, or have an order."""
    listed = ask(api, data, lambda client: client.nodes.list().whole())
    if as_json:
        print_json(listed)
    else:
        print_nodes(listed.nodes)


@nodes_app.command()
def show(
    node: Node, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Show one node, its GPUs and its workers."""

    async def question(client: PenstockClient) -> tuple[NodeDetail, dict[str, str]]:
        shown = await client.nodes.show(node)
        ids = {worker.endpoint_id for worker in shown.worker_details}
        return shown, {e.id: e.app_name for e in await _endpoints(client, ids)}

    shown, app_names = ask(api, data, question)
    if as_json:
        print_json(shown)
    else:
        print_node(shown, app_names)


@nodes_app.command()
def cordon(
    node: Node,
    reason: Reason = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let a node take no new worker; those it has run on. Ends a drain."""
    _print_outcome(ask(api, data, lambda client: client.nodes.cordon(node, reason)), as_json)


@nodes_app.command()
def uncordon(
    node: Node, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Let a node take workers again."""
    _print_outcome(ask(api, data, lambda client: client.nodes.uncordon(node)), as_json)


@nodes_app.command()
def drain(
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
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
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
                typer.echo(plain(line), err=as_json)

        return await client.nodes.wait_until_drained(node, timeout_s=wait_timeout, tell=tell)

    drained = ask(api, data, question)
    if as_json or not wait:
        _print_outcome(drained, as_json)


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


def _print_outcome(node: NodeDetail, as_json: bool) -> None:
    if as_json:
        print_json(node)
    else:
        n = len(node.workers)
        print_line(f"{node.id} is {node.state}, {n} worker{'' if n == 1 else 's'} on it")


@nodes_app.callback()
def _group() -> None:
    """Nodes: the machines with GPUs."""
