"""`penstock endpoint`: endpoints, their states, revisions and canaries."""

from typing import Annotated

import typer

from penstock_cli.commands.endpoint_options import (
    App,
    WaitGone,
)
from penstock_cli.options import WaitTimeoutOption
from penstock_cli.output.documents import Form
from penstock_cli.output.endpoints import (
    print_decisions,
    print_endpoint,
    print_endpoints,
    print_revisions,
    print_trouble,
)
from penstock_cli.session import Session, with_session
from penstock_client.documents import DecisionList, EndpointDocument
from penstock_client.sync.client import PenstockSyncClient

#: Longer than the default request and grace times of a worker.
GONE_TIMEOUT_S = 660.0


@with_session
def list_endpoints(
    session: Session,
) -> None:
    """List the endpoints."""
    listed = session.ask(lambda client: client.endpoints.list().whole())
    session.show(listed, lambda listed: print_endpoints(listed.endpoints))


@with_session
def show(session: Session, app: App) -> None:
    """Show one endpoint."""
    endpoint = session.ask(lambda client: client.endpoints.show(app))
    session.show(endpoint, print_endpoint)


@with_session
def delete(
    session: Session,
    app: App,
    wait: WaitGone = False,
    wait_timeout: WaitTimeoutOption = GONE_TIMEOUT_S,
) -> None:
    """Delete an endpoint; its requests under way are finished first."""

    def delete_it(client: PenstockSyncClient) -> EndpointDocument:
        deleted = client.endpoints.delete(app)
        if wait:
            client.endpoints.wait_until_gone(deleted.id, timeout_s=wait_timeout)
        return deleted

    deleted = session.ask(delete_it)
    session.tell(deleted, f"{'deleted' if wait else 'deleting'} {deleted.app_name} ({deleted.id})")


@with_session
def pause(session: Session, app: App) -> None:
    """Keep an endpoint at 0 workers; its requests are refused."""
    endpoint = session.ask(lambda client: client.endpoints.pause(app))
    session.tell(endpoint, outcome(endpoint, "paused"))


@with_session
def resume(session: Session, app: App) -> None:
    """Let a paused endpoint run again."""
    endpoint = session.ask(lambda client: client.endpoints.resume(app))
    session.tell(endpoint, outcome(endpoint, "resumed"))


@with_session
def explain(session: Session, app: App) -> None:
    """Say why an endpoint has the workers it has: the autoscaler's last decisions, what is wrong now."""

    def question(client: PenstockSyncClient) -> tuple[DecisionList, EndpointDocument | None]:
        listed = client.endpoints.decisions(app)
        return listed, client.endpoints.show(app) if session.form is Form.TEXT else None

    listed, endpoint = session.ask(question)

    def tell(listed: DecisionList) -> None:
        print_decisions(listed.decisions)
        if endpoint is not None:
            print_trouble(endpoint)

    session.show(listed, tell)


@with_session
def revisions(session: Session, app: App) -> None:
    """List an endpoint's revisions: when, why, and what each changed."""
    listed = session.ask(lambda client: client.endpoints.revisions(app))
    session.show(listed, lambda listed: print_revisions(listed.revisions))


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
    session.tell(endpoint, outcome(endpoint, "rolled back"))


@with_session
def promote(session: Session, app: App) -> None:
    """Give the canary all requests; what ran before it is replaced."""
    endpoint = session.ask(lambda client: client.endpoints.promote(app))
    session.tell(endpoint, outcome(endpoint, "promoted"))


@with_session
def abort(session: Session, app: App) -> None:
    """End the canary; what ran before it gets all requests."""
    endpoint = session.ask(lambda client: client.endpoints.abort(app))
    session.tell(endpoint, outcome(endpoint, "aborted"))


def outcome(endpoint: EndpointDocument, done: str) -> str:
    """A sentence: what was done to this endpoint, and how it is now."""
    return f"{done} {endpoint.app_name} ({endpoint.id}), {endpoint.state}: {endpoint.url}"
