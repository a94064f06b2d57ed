"""`penstock worker logs`: what a worker wrote."""

import asyncio
from typing import Annotated, Final

import typer

from penstock_cli.asking_async import ask_async
from penstock_cli.completion import complete_workers
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument
from penstock_client.errors import ApiError

#: Endpoints that are asked about a worker at once.
_AT_ONCE: Final = 8


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
        ask_async(session, show)


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
