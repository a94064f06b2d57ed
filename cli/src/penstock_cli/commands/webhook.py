"""`penstock webhook`: events sent to a URL, and what became of them."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock_cli.completion import complete_endpoints, complete_webhooks
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.printing import print_line
from penstock_cli.output.webhooks import (
    print_deliveries,
    print_delivery,
    print_webhook,
    print_webhooks,
)
from penstock_cli.session import Session, with_session
from penstock_client.documents import DeliveryDetail, DeliveryDocument, WebhookMade
from penstock_client.sync.client import PenstockSyncClient
from penstock_common.messages import DeliveryState

WebhookArgument = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="Its id.", autocompletion=complete_webhooks)
]
EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="Id of the event.")]
TypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="Events to send, e.g. penstock.worker.failed, or penstock.endpoint. for all that begin "
        "so; repeatable, none = all.",
        show_default=False,
    ),
]
EndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        metavar="APP",
        autocompletion=complete_endpoints,
        help="Only events about this endpoint and its workers; repeatable, none = all.",
        show_default=False,
    ),
]
DescriptionOption = Annotated[
    str | None, typer.Option("--description", help="For people.", show_default=False)
]


@with_session
def create(
    session: Session,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent.")],
    types: TypeOption = None,
    endpoints: EndpointOption = None,
    description: DescriptionOption = None,
) -> None:
    """Have events sent to a URL, and print the secret that they are signed with.

    It is never shown again. How a receiver verifies what comes: docs/webhooks.md.
    """
    document = {"url": url, **_given(types, endpoints, description)}
    made = session.ask(lambda client: client.webhooks.create(document))
    _show_secret(session, made, f"made {made.id}")


@with_session
def list_webhooks(
    session: Session,
) -> None:
    """List the webhooks and how their receivers do."""
    listed = session.ask(lambda client: client.webhooks.list().whole())
    session.show(listed, lambda listed: print_webhooks(listed.webhooks))


@with_session
def show(
    session: Session,
    webhook: WebhookArgument,
) -> None:
    """Show a webhook and how its receiver does."""
    shown = session.ask(lambda client: client.webhooks.show(webhook))
    session.show(shown, print_webhook)


@with_session
def update(
    session: Session,
    webhook: WebhookArgument,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The new one.", show_default=False)
    ] = None,
    types: TypeOption = None,
    endpoints: EndpointOption = None,
    any_endpoint: Annotated[
        bool, typer.Option("--any-endpoint", help="Events about anything again.")
    ] = False,
    description: DescriptionOption = None,
    enabled: Annotated[
        bool | None,
        typer.Option(
            "--enable/--disable",
            help="What happens while it is disabled is never sent.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Change, disable or enable a webhook; what is not named stays."""
    if any_endpoint and endpoints:
        raise CliError("give --endpoint or --any-endpoint, not both")
    patch = _given(types, endpoints, description)
    patch |= {"url": url} if url is not None else {}
    patch |= {"endpoints": []} if any_endpoint else {}
    patch |= {"enabled": enabled} if enabled is not None else {}
    if not patch:
        raise CliError("nothing to change; see `penstock webhook update --help`")
    changed = session.ask(lambda client: client.webhooks.update(webhook, patch))
    session.tell(changed, f"updated {changed.id}")


@with_session
def delete(
    session: Session,
    webhook: WebhookArgument,
) -> None:
    """Delete a webhook; what waits for it is not sent any more."""
    gone = session.ask(lambda client: client.webhooks.delete(webhook))
    session.tell(gone, f"deleted {gone.id}")


@with_session
def rotate_secret(
    session: Session,
    webhook: WebhookArgument,
    grace: Annotated[
        float | None,
        typer.Option(
            "--grace",
            min=0,
            metavar="SECONDS",
            help="So long the secret before signs as well; left out = a day.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Give a webhook another secret, and print it."""
    made = session.ask(lambda client: client.webhooks.rotate_secret(webhook, grace_s=grace))
    _show_secret(session, made, f"{made.id} has another secret")


@with_session
def deliveries(
    session: Session,
    webhook: WebhookArgument,
    event: Annotated[
        str | None,
        typer.Argument(metavar="[EVENT]", help="Only this event, with each attempt."),
    ] = None,
    state: Annotated[
        DeliveryState | None, typer.Option(help="Only those in this state.", show_default=False)
    ] = None,
) -> None:
    """Show what became of a webhook's events, the newest first."""
    if event is not None:
        detail = session.ask(lambda client: client.webhooks.show_delivery(webhook, event))
        session.show(detail, print_delivery)
        return
    listed = session.ask(lambda client: client.webhooks.deliveries(webhook, state=state).whole())
    session.show(listed, lambda listed: print_deliveries(listed.deliveries))


@with_session
def redeliver(
    session: Session,
    webhook: WebhookArgument,
    event: EventArgument,
    wait_timeout: WaitTimeoutOption = 30.0,
) -> None:
    """Send an event again, and wait for what the receiver answers."""

    def send(client: PenstockSyncClient) -> DeliveryDetail:
        begun = client.webhooks.redeliver(webhook, event)
        return _attempted(client, webhook, begun, wait_timeout)

    _print_attempted(session, send)


@with_session
def send_test(
    session: Session,
    webhook: WebhookArgument,
    wait_timeout: WaitTimeoutOption = 30.0,
) -> None:
    """Send an event that means nothing, and wait for what the receiver answers."""

    def send(client: PenstockSyncClient) -> DeliveryDetail:
        begun = client.webhooks.test(webhook)
        return _attempted(client, webhook, begun, wait_timeout)

    _print_attempted(session, send)


def _attempted(
    client: PenstockSyncClient, webhook: str, begun: DeliveryDocument, wait_timeout: float
) -> DeliveryDetail:
    return client.webhooks.wait_for_attempt(
        webhook, begun.event_id, after=begun.n_attempts, timeout_s=wait_timeout
    )


def _print_attempted(
    session: Session, send: Callable[[PenstockSyncClient], DeliveryDetail]
) -> None:
    done = session.ask(send)
    last = done.attempts[-1]
    session.show(done, lambda _: None if last.error else print_line(_delivered(done)))
    if last.error is not None:
        raise CliError(f"{done.event_id} was not delivered: {last.error}", code=ExitCode.REFUSED)


def _delivered(done: DeliveryDetail) -> str:
    last = done.attempts[-1]
    return f"delivered {done.event_id} in {last.duration_s * 1000:.0f} ms: {last.status}"


def _given(
    types: list[str] | None, endpoints: list[str] | None, description: str | None
) -> dict[str, Any]:
    given = {"event_types": types, "endpoints": endpoints, "description": description}
    return {name: value for name, value in given.items() if value is not None}


def _show_secret(session: Session, made: WebhookMade, told: str) -> None:
    session.tell(made, f"{told}; the secret is shown this once:\n{made.secret}")
