"""`penstock node drain`: moves a node's workers elsewhere, and tells how far it is."""

import asyncio
from typing import Annotated, Final

import typer

from penstock_cli.asking_async import ask_async
from penstock_cli.commands.node import Node, Reason, outcome
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.nodes import drain_progress
from penstock_cli.output.printing import plain
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, NodeDetail
from penstock_client.errors import ApiError
from penstock_common.states import DesiredState

#: Longest wait of `drain --wait`: the longest request and the start of a large image fit in.
DRAINED_TIMEOUT_S: Final = 3_600.0


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

    drained = ask_async(session, question)
    if session.form is not Form.TEXT or not wait:
        session.tell(drained, outcome(drained))


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
