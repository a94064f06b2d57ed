"""`penstock endpoint logs`: what all workers of an endpoint wrote."""

from penstock_cli.asking_async import ask_async
from penstock_cli.commands.endpoint_options import App
from penstock_cli.output.worker_lines import FollowOption, TailOption, interruptible, print_logs
from penstock_cli.session import Session, with_session
from penstock_client.client import PenstockClient


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
        ask_async(session, show)
