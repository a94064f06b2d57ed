"""`penstock endpoint`: endpoints, their states, revisions and canaries, and their workers' logs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock_cli.input.endpoint_flags import EndpointFlags, FlagError, overlay
from penstock_cli.input.endpoint_options import (
    App,
    AppName,
    Command,
    Concurrency,
    Env,
    GpuProduct,
    Gpus,
    HealthPath,
    IdleTimeout,
    Image,
    Max,
    Min,
    Name,
    Port,
    Public,
    Scale,
    Secret,
    Wait,
    WaitGone,
)
from penstock_cli.options import (
    DEFAULT_DATA,
    ApiOption,
    DataOption,
    FileOption,
    JsonOption,
    WaitTimeoutOption,
    ask,
    environment,
    read_document,
)
from penstock_cli.output.endpoints import (
    print_decisions,
    print_endpoint,
    print_endpoints,
    print_revisions,
)
from penstock_cli.output.printing import print_json, print_line
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_client.client import PenstockClient
from penstock_client.documents import EndpointDocument

endpoints_app = typer.Typer(
    help="Endpoints: what you deploy, each behind its own URL.", no_args_is_help=True
)

#: As long as a worker may take to start by default.
SERVING_TIMEOUT_S = 900.0
#: Longer than the default request and grace times of a worker.
GONE_TIMEOUT_S = 660.0


@endpoints_app.command()
def create(  # one parameter per flag is how typer reads them
    file: FileOption = None,
    name: Name = None,
    app_name: AppName = None,
    image: Image = None,
    command: Command = None,
    port: Port = None,
    gpus: Gpus = None,
    gpu_product: GpuProduct = None,
    min_workers: Min = None,
    max_workers: Max = None,
    concurrency: Concurrency = None,
    idle_timeout: IdleTimeout = None,
    scale: Scale = None,
    health_path: HealthPath = None,
    env: Env = None,
    secret: Secret = None,
    public: Public = None,
    wait: Wait = False,
    wait_timeout: WaitTimeoutOption = SERVING_TIMEOUT_S,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Create an endpoint from a document, from flags, or both (flags win)."""
    flags = EndpointFlags(
        name=name,
        app_name=app_name,
        image=image,
        command=command,
        port=port,
        gpus=gpus,
        gpu_product=gpu_product or (),
        min=min_workers,
        max=max_workers,
        concurrency=concurrency,
        idle_timeout=idle_timeout,
        scale=scale,
        health_path=health_path,
        env=env or (),
        secret=secret or (),
        public=public,
    )
    document = overlay(read_document(file) if file else {}, _said(flags))
    if not document:
        raise typer.BadParameter("say what runs: --image, --command, or a document with -f")

    created = ask(api, data, lambda client: client.endpoints.create(document))
    _finish(created, "created", wait_timeout if wait else None, as_json, api, data)


@endpoints_app.command("list")
def list_endpoints(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the endpoints."""
    listed = ask(api, data, lambda client: client.endpoints.list().whole())
    if as_json:
        print_json(listed)
    else:
        print_endpoints(listed.endpoints)


@endpoints_app.command()
def show(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Show one endpoint."""
    endpoint = ask(api, data, lambda client: client.endpoints.show(app))
    if as_json:
        print_json(endpoint)
    else:
        print_endpoint(endpoint)


@endpoints_app.command()
def update(  # one parameter per flag is how typer reads them
    app: App,
    file: FileOption = None,
    name: Name = None,
    app_name: AppName = None,
    image: Image = None,
    command: Command = None,
    port: Port = None,
    gpus: Gpus = None,
    gpu_product: GpuProduct = None,
    min_workers: Min = None,
    max_workers: Max = None,
    concurrency: Concurrency = None,
    idle_timeout: IdleTimeout = None,
    scale: Scale = None,
    health_path: HealthPath = None,
    env: Env = None,
    secret: Secret = None,
    public: Public = None,
    canary: Annotated[
        int | None,
        typer.Option(help="Percent of the requests that the change gets.", min=1, max=99),
    ] = None,
    wait: Wait = False,
    wait_timeout: WaitTimeoutOption = SERVING_TIMEOUT_S,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Change an endpoint by a JSON merge patch, by flags, or both (flags win).

    Env and secrets that are not named stay; a patch with NAME: null removes one.
    With --canary what runs now goes on beside it, until `promote` or `abort`; --canary alone gives a
    canary that runs another share.
    """
    flags = EndpointFlags(
        name=name,
        app_name=app_name,
        image=image,
        command=command,
        port=port,
        gpus=gpus,
        gpu_product=gpu_product or (),
        min=min_workers,
        max=max_workers,
        concurrency=concurrency,
        idle_timeout=idle_timeout,
        scale=scale,
        health_path=health_path,
        env=env or (),
        secret=secret or (),
        public=public,
    )
    patch = overlay(read_document(file) if file else {}, _said(flags))
    if not patch and canary is None:
        raise typer.BadParameter("say what to change: flags, or a merge patch with -f")

    async def change(client: PenstockClient) -> EndpointDocument:
        if canary is None:
            return await client.endpoints.update(app, patch)
        return await client.endpoints.share_traffic(app, canary, patch or None)

    updated = ask(api, data, change)
    _finish(updated, "updated", wait_timeout if wait else None, as_json, api, data)


@endpoints_app.command()
def delete(
    app: App,
    wait: WaitGone = False,
    wait_timeout: WaitTimeoutOption = GONE_TIMEOUT_S,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Delete an endpoint; its requests under way are finished first."""

    async def delete_it(client: PenstockClient) -> EndpointDocument:
        deleted = await client.endpoints.delete(app)
        if wait:
            await client.endpoints.wait_until_gone(deleted.id, timeout_s=wait_timeout)
        return deleted

    deleted = ask(api, data, delete_it)
    if as_json:
        print_json(deleted)
    else:
        print_line(f"{'deleted' if wait else 'deleting'} {deleted.app_name} ({deleted.id})")


@endpoints_app.command()
def pause(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Keep an endpoint at 0 workers; its requests are refused."""
    _print_outcome(ask(api, data, lambda client: client.endpoints.pause(app)), "paused", as_json)


@endpoints_app.command()
def resume(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Let a paused endpoint run again."""
    _print_outcome(ask(api, data, lambda client: client.endpoints.resume(app)), "resumed", as_json)


@endpoints_app.command()
def explain(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Say why an endpoint has the workers it has: the autoscaler's last decisions."""
    listed = ask(api, data, lambda client: client.endpoints.decisions(app))
    if as_json:
        print_json(listed)
    else:
        print_decisions(listed.decisions)


@endpoints_app.command()
def revisions(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List an endpoint's revisions: when, why, and what each changed."""
    listed = ask(api, data, lambda client: client.endpoints.revisions(app))
    if as_json:
        print_json(listed)
    else:
        print_revisions(listed.revisions)


@endpoints_app.command()
def rollback(
    app: App,
    revision: Annotated[
        int | None, typer.Option(help="Go back to this one; else to the one before.", min=1)
    ] = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Run again what an earlier revision ran; limits and policies stay as they are now."""
    endpoint = ask(api, data, lambda client: client.endpoints.roll_back(app, revision))
    _print_outcome(endpoint, "rolled back", as_json)


@endpoints_app.command()
def promote(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """Give the canary all requests; what ran before it is replaced."""
    _print_outcome(
        ask(api, data, lambda client: client.endpoints.promote(app)), "promoted", as_json
    )


@endpoints_app.command()
def abort(
    app: App, as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """End the canary; what ran before it gets all requests."""
    _print_outcome(ask(api, data, lambda client: client.endpoints.abort(app)), "aborted", as_json)


@endpoints_app.command()
def logs(
    app: App,
    follow: FollowOption = False,
    tail: TailOption = None,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show what all workers of an endpoint wrote, each line behind its worker's id."""

    async def show(client: PenstockClient) -> None:
        lines = client.endpoints.logs(app, follow=follow, tail=tail)
        await print_logs(lines, as_json=as_json, with_workers=True)

    with interruptible():
        ask(api, data, show)


def _said(flags: EndpointFlags) -> dict[str, Any]:
    try:
        return flags.document(environment())
    except FlagError as error:
        raise typer.BadParameter(str(error), param_hint=error.flag) from None


def _finish(
    endpoint: EndpointDocument,
    done: str,
    wait_s: float | None,
    as_json: bool,
    api: str | None,
    data: Path,
) -> None:
    """Say what was done; with `wait_s`, wait until the endpoint serves and say that as well."""
    if not as_json:
        _print_outcome(endpoint, done, as_json=False)
    if wait_s is not None:
        endpoint = ask(
            api,
            data,
            lambda client: client.endpoints.wait_until_serving(endpoint.id, timeout_s=wait_s),
        )
    if as_json:
        print_json(endpoint)
    elif wait_s is not None:
        print_line(f"{endpoint.app_name} is {endpoint.state}")


def _print_outcome(endpoint: EndpointDocument, done: str, as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
    else:
        print_line(f"{done} {endpoint.app_name} ({endpoint.id}), {endpoint.state}: {endpoint.url}")
