"""`penstock product`: the kinds of GPU that the nodes have."""

from penstock_cli.output.offers import print_products
from penstock_cli.session import Session, with_session


@with_session
def list_products(
    session: Session,
) -> None:
    """List the kinds of GPU: how many there are and are free, where, and what they cost."""
    listed = session.ask(lambda client: client.products.list().whole())
    session.show(listed, lambda listed: print_products(listed.products))
