"""`penstock node token`: the join tokens that `penstock node join` makes."""

from typing import Annotated

import typer

from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask
from penstock_cli.output.printing import print_json, print_line, print_rows
from penstock_client.documents import JoinTokenDocument

join_tokens_app = typer.Typer(
    help="Join tokens: what lets hosts become nodes.", no_args_is_help=True
)


@join_tokens_app.command("list")
def list_tokens(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the join tokens, and which hosts joined with them."""
    listed = ask(api, data, lambda client: client.join_tokens.list().whole())
    if as_json:
        print_json(listed)
    else:
        header = ("TOKEN", "NAME", "USED", "EXPIRES (UTC)", "LABELS", "HOSTS")
        print_rows(header, [_cells(token) for token in listed.join_tokens])


@join_tokens_app.command("delete")
def delete(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token.")],
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let nobody join with a token any more; nodes that have stay."""
    gone = ask(api, data, lambda client: client.join_tokens.delete(token))
    if as_json:
        print_json(gone)
    else:
        print_line(f"deleted {gone.id}")


@join_tokens_app.callback()
def _group() -> None:
    """Join tokens: what lets hosts become nodes."""


def _cells(token: JoinTokenDocument) -> tuple[object, ...]:
    return (
        token.id,
        token.name or "-",
        f"{token.uses} of {token.max_uses}",
        f"{token.expires_at:%Y-%m-%d %H:%M}",
        ",".join(f"{name}={value}" for name, value in token.labels.items()) or "-",
        ", ".join(host.hostname or host.address for host in token.hosts) or "-",
    )
