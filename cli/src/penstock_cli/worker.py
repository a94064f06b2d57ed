"""`penstock worker`: what runs."""

import asyncio
from typing import Annotated

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.render import print_json, print_workers
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
        print_json(ask(api, data, lambda client: client.list_workers(app)))
        return
    found = ask(api, data, lambda client: _workers(client, app))
    if as_json:
        # The api lists workers by endpoint; all together have the form of one such list.
        print_json(WorkerList.of({"workers": [worker.raw for _, worker in found]}))
    else:
        print_workers(found)


async def _workers(client: PenstockClient, app: str | None) -> list[tuple[str, WorkerDocument]]:
    endpoints: tuple[EndpointDocument, ...]
    if app is None:
        endpoints = (await client.list_endpoints()).endpoints
    else:
        endpoints = (await client.show_endpoint(app),)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def of(endpoint: EndpointDocument) -> list[tuple[str, WorkerDocument]]:
        async with turns:
            try:
                listed = await client.list_workers(endpoint.id)
            except ApiError as error:
                if error.status == 404:  # it was deleted in between
                    return []
                raise
        return [(endpoint.app_name, worker) for worker in listed.workers]

    lists = await asyncio.gather(*map(of, endpoints))
    return [worker for workers in lists for worker in workers]
