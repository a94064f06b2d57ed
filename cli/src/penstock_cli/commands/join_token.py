"""`penstock node token`: the join tokens that `penstock node join` makes."""

from typing import Annotated

import typer

from penstock_cli.output.printing import print_rows
from penstock_cli.session import Session, with_session
from penstock_client.documents import JoinTokenDocument, JoinTokenList


@with_session
def list_tokens(session: Session) -> None:
    """List the join tokens, and which hosts joined with them."""
    listed = session.ask(lambda client: client.join_tokens.list().whole())
    session.show(listed, _print_table)


@with_session
def delete(
    session: Session,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token.")],
) -> None:
    """Let nobody join with a token any more; nodes that have stay."""
    gone = session.ask(lambda client: client.join_tokens.delete(token))
    session.tell(gone, f"deleted {gone.id}")


def _print_table(listed: JoinTokenList) -> None:
    header = ("TOKEN", "NAME", "USED", "EXPIRES (UTC)", "LABELS", "HOSTS")
    print_rows(header, [_cells(token) for token in listed.join_tokens])


def _cells(token: JoinTokenDocument) -> tuple[object, ...]:
    return (
        token.id,
        token.name or "-",
        f"{token.uses} of {token.max_uses}",
        f"{token.expires_at:%Y-%m-%d %H:%M}",
        ",".join(f"{name}={value}" for name, value in token.labels.items()) or "-",
        ", ".join(host.hostname or host.address for host in token.hosts) or "-",
    )
