"""`penstock limits`: what a document may contain, and the caller may do."""

from penstock_cli.output.offers import print_limits
from penstock_cli.session import Session, with_session


@with_session
def limits(session: Session) -> None:
    """Show what each field of an endpoint document takes, your quota and your use of it."""
    shown = session.ask(lambda client: client.limits.show())
    session.show(shown, print_limits)
