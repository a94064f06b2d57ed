"""`penstock endpoint create` and `update`: endpoints as documents and flags say."""

import os
from typing import Annotated, Any

import typer

from penstock_cli.commands.endpoint import outcome
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
)
from penstock_cli.commands.serving import wait_with_screen
from penstock_cli.input.documents import read_document
from penstock_cli.input.endpoint_flags import EndpointFlags, FlagError, overlay
from penstock_cli.options import FileOption, WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.session import Session, with_session
from penstock_client.documents import EndpointDocument
from penstock_client.sync.client import PenstockSyncClient

#: As long as a worker may take to start by default.
SERVING_TIMEOUT_S = 900.0


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

    def change(client: PenstockSyncClient) -> EndpointDocument:
        if canary is None:
            return client.endpoints.update(app, patch)
        return client.endpoints.share_traffic(app, canary, patch or None)

    updated = session.ask(change)
    _finish(session, updated, "updated", wait_timeout if wait else None)


def _said(flags: EndpointFlags) -> dict[str, Any]:
    try:
        return flags.document(dict(os.environ))
    except FlagError as error:
        raise typer.BadParameter(str(error), param_hint=error.flag) from None


def _finish(session: Session, endpoint: EndpointDocument, done: str, wait_s: float | None) -> None:
    """Say what was done; with `wait_s`, wait until the endpoint serves and say that as well."""
    if session.form is Form.TEXT or wait_s is None:
        session.tell(endpoint, outcome(endpoint, done))
    if wait_s is not None:
        serving, told = wait_with_screen(session, endpoint, wait_s)
        session.tell(serving, told)
