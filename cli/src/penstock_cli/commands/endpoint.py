"""`penstock endpoint`: endpoints, their states, revisions and canaries, and their workers' logs."""

import os
from typing import Annotated, Any

import typer

from penstock_cli.commands.endpoint_curl import CONTEXT, curl
from penstock_cli.commands.endpoint_metrics import metrics
from penstock_cli.commands.endpoint_options import (
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
from penstock_cli.commands.serving import wait_with_screen
from penstock_cli.input.documents import read_document
from penstock_cli.input.endpoint_flags import EndpointFlags, FlagError, overlay
from penstock_cli.options import FileOption, WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.endpoints import (
    print_decisions,
    print_endpoint,
    print_endpoints,
    print_revisions,
    print_trouble,
)
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient
from penstock_client.documents import DecisionList, EndpointDocument

endpoints_app = typer.Typer(
    help="Endpoints: what you deploy, each behind its own URL.", no_args_is_help=True
)

#: As long as a worker may take to start by default.
SERVING_TIMEOUT_S = 900.0
#: Longer than the default request and grace times of a worker.
GONE_TIMEOUT_S = 660.0


endpoints_app.command()(metrics)
endpoints_app.command(context_settings=CONTEXT)(curl)


@endpoints_app.command()
@with_session
def create(  # one parameter per flag is how typer reads them
    session: Session,
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

    created = session.ask(lambda client: client.endpoints.create(document))
    _finish(session, created, "created", wait_timeout if wait else None)


@endpoints_app.command("list")
@with_session
def list_endpoints(
    session: Session,
) -> None:
    """List the endpoints."""
    listed = session.ask(lambda client: client.endpoints.list().whole())
    session.show(listed, lambda listed: print_endpoints(listed.endpoints))


@endpoints_app.command()
@with_session
def show(session: Session, app: App) -> None:
    """Show one endpoint."""
    endpoint = session.ask(lambda client: client.endpoints.show(app))
    session.show(endpoint, print_endpoint)


@endpoints_app.command()
@with_session
def update(  # one parameter per flag is how typer reads them
    session: Session,
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

    updated = session.ask(change)
    _finish(session, updated, "updated", wait_timeout if wait else None)


@endpoints_app.command()
@with_session
def delete(
    session: Session,
    app: App,
    wait: WaitGone = False,
    wait_timeout: WaitTimeoutOption = GONE_TIMEOUT_S,
) -> None:
    """Delete an endpoint; its requests under way are finished first."""

    async def delete_it(client: PenstockClient) -> EndpointDocument:
        deleted = await client.endpoints.delete(app)
        if wait:
            await client.endpoints.wait_until_gone(deleted.id, timeout_s=wait_timeout)
        return deleted

    deleted = session.ask(delete_it)
    session.tell(deleted, f"{'deleted' if wait else 'deleting'} {deleted.app_name} ({deleted.id})")


@endpoints_app.command()
@with_session
def pause(session: Session, app: App) -> None:
    """Keep an endpoint at 0 workers; its requests are refused."""
    endpoint = session.ask(lambda client: client.endpoints.pause(app))
    session.tell(endpoint, _outcome(endpoint, "paused"))


@endpoints_app.command()
@with_session
def resume(session: Session, app: App) -> None:
    """Let a paused endpoint run again."""
    endpoint = session.ask(lambda client: client.endpoints.resume(app))
    session.tell(endpoint, _outcome(endpoint, "resumed"))


@endpoints_app.command()
@with_session
def explain(session: Session, app: App) -> None:
    """Say why an endpoint has the workers it has: the autoscaler's last decisions, what is wrong now."""

    async def question(client: PenstockClient) -> tuple[DecisionList, EndpointDocument | None]:
        listed = await client.endpoints.decisions(app)
        return listed, await client.endpoints.show(app) if session.form is Form.TEXT else None

    listed, endpoint = session.ask(question)

    def tell(listed: DecisionList) -> None:
        print_decisions(listed.decisions)
        if endpoint is not None:
            print_trouble(endpoint)

    session.show(listed, tell)


@endpoints_app.command()
@with_session
def revisions(session: Session, app: App) -> None:
    """List an endpoint's revisions: when, why, and what each changed."""
    listed = session.ask(lambda client: client.endpoints.revisions(app))
    session.show(listed, lambda listed: print_revisions(listed.revisions))


@endpoints_app.command()
@with_session
def rollback(
    session: Session,
    app: App,
    revision: Annotated[
        int | None, typer.Option(help="Go back to this one; else to the one before.", min=1)
    ] = None,
) -> None:
    """Run again what an earlier revision ran; limits and policies stay as they are now."""
    endpoint = session.ask(lambda client: client.endpoints.roll_back(app, revision))
    session.tell(endpoint, _outcome(endpoint, "rolled back"))


@endpoints_app.command()
@with_session
def promote(session: Session, app: App) -> None:
    """Give the canary all requests; what ran before it is replaced."""
    endpoint = session.ask(lambda client: client.endpoints.promote(app))
    session.tell(endpoint, _outcome(endpoint, "promoted"))


@endpoints_app.command()
@with_session
def abort(session: Session, app: App) -> None:
    """End the canary; what ran before it gets all requests."""
    endpoint = session.ask(lambda client: client.endpoints.abort(app))
    session.tell(endpoint, _outcome(endpoint, "aborted"))


@endpoints_app.command()
@with_session
def logs(
    session: Session,
    app: App,
    follow: FollowOption = False,
    tail: TailOption = None,
) -> None:
    """Show what all workers of an endpoint wrote, each line behind its worker's id."""

    async def show(client: PenstockClient) -> None:
        lines = client.endpoints.logs(app, follow=follow, tail=tail)
        await print_logs(lines, session.form, with_workers=True)

    with interruptible():
        session.ask(show)


def _said(flags: EndpointFlags) -> dict[str, Any]:
    try:
        return flags.document(dict(os.environ))
    except FlagError as error:
        raise typer.BadParameter(str(error), param_hint=error.flag) from None


def _finish(session: Session, endpoint: EndpointDocument, done: str, wait_s: float | None) -> None:
    """Say what was done; with `wait_s`, wait until the endpoint serves and say that as well."""
    if session.form is Form.TEXT or wait_s is None:
        session.tell(endpoint, _outcome(endpoint, done))
    if wait_s is not None:
        serving, told = wait_with_screen(session, endpoint, wait_s)
        session.tell(serving, told)


def _outcome(endpoint: EndpointDocument, done: str) -> str:
    return f"{done} {endpoint.app_name} ({endpoint.id}), {endpoint.state}: {endpoint.url}"
