"""`penstock worker`: what runs."""

import asyncio
from typing import Annotated

import typer

from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.printing import print_json
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_cli.output.workers import print_workers
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument, WorkerDocument, WorkerList
from penstock_client.errors import ApiError

workers_app = typer.Typer(
    help="Workers: the containers that serve endpoints.", no_args_is_help=True
)

#: Endpoints whose workers are asked for at once.
_AT_ONCE = 8


@workers_app.command("list")
def list_workers(
    app: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="app_name or id of an endpoint; left out = all."),
    ] = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """List the workers of one endpoint, or of all."""
    if app is not None and as_json:
        print_json(ask(api, data, lambda client: client.workers.list(app).whole()))
        return
    found = ask(api, data, lambda client: _workers(client, app))
    if as_json:
        # The api lists workers by endpoint; all together have the form of one such list.
        print_json(WorkerList.of({"workers": [worker.raw for _, worker in found]}))
    else:
        print_workers(found)


@workers_app.command("logs")
def show_logs(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Id of a worker, ended or not.")],
    follow: FollowOption = False,
    tail: TailOption = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show what a worker wrote, stdout and stderr."""

    async def show(client: PenstockClient) -> None:
        endpoint = await _endpoint_of(client, worker)
        lines = client.workers.logs(endpoint, worker, follow=follow, tail=tail)
        await print_logs(lines, as_json=as_json, with_workers=False)

    with interruptible():
        ask(api, data, show)


async def _endpoint_of(client: PenstockClient, worker: str) -> str:
    """The endpoint of a worker, also of one that is gone and has left lines.

    Raises:
        CliError: no endpoint knows it.
    """
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
    raise CliError(f"there is, and was, no worker '{worker}'", code=ExitCode.REFUSED)


async def _workers(client: PenstockClient, app: str | None) -> list[tuple[str, WorkerDocument]]:
    endpoints: tuple[EndpointDocument, ...]
    if app is None:
        endpoints = (await client.endpoints.list().whole()).endpoints
    else:
        endpoints = (await client.endpoints.show(app),)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def of(endpoint: EndpointDocument) -> list[tuple[str, WorkerDocument]]:
        async with turns:
            try:
                listed = await client.workers.list(endpoint.id).whole()
            except ApiError as error:
                if error.status == 404:  # it was deleted in between
                    return []
                raise
        return [(endpoint.app_name, worker) for worker in listed.workers]

    lists = await asyncio.gather(*map(of, endpoints))
    return [worker for workers in lists for worker in workers]
