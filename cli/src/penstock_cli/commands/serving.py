"""How a command waits until what it has written serves."""

from penstock_cli.asking_async import ask_async
from penstock_cli.deployment.screens import make_screen
from penstock_cli.deployment.waiting import wait_until_serving
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.output.documents import Form
from penstock_cli.session import Session
from penstock_client.documents import EndpointDocument


def wait_with_screen(
    session: Session, endpoint: EndpointDocument, wait_s: float
) -> tuple[EndpointDocument, str]:
    """The endpoint once it serves, and a sentence that says so; shows how it goes meanwhile.

    Raises:
        CliError: it does not serve, or was not there within `wait_s` seconds, or the person left.
    """
    screen = make_screen(quiet=session.form is not Form.TEXT)
    try:
        return ask_async(
            session, lambda client: wait_until_serving(client, endpoint, screen, timeout_s=wait_s)
        )
    except KeyboardInterrupt:
        raise CliError(goes_on(endpoint.app_name), code=ExitCode.INTERRUPTED) from None


def goes_on(app_name: str) -> str:
    """What is said to who stops waiting."""
    return (
        f"no longer waiting; '{app_name}' goes on without you: "
        f"`penstock endpoint show {app_name}` says how it is"
    )
