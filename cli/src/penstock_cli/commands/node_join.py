"""`penstock node join`: makes a join token and prints what to run on the new host."""

import shlex
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from penstock_cli.exits import CliError
from penstock_cli.options import seconds_of
from penstock_cli.output.printing import write
from penstock_cli.session import Session, with_session
from penstock_client.documents import JoinTokenMade

#: Where other hosts cannot reach, or which is no address to reach at all.
_NO_ADDRESS: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::", ""})  # noqa: S104


@with_session
def join(
    session: Session,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the new host, as routers reach it; left out = its first one.",
            show_default=False,
        ),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The api as the new host reaches it; left out = as this command does.",
            show_default=False,
        ),
    ] = None,
    expires_in: Annotated[
        str, typer.Option(metavar="DURATION", help="Nobody joins after so long.")
    ] = "1h",
    uses: Annotated[int, typer.Option(min=1, help="So many hosts may join.")] = 1,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Label of the nodes; repeatable.", show_default=False
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the token, for people.", show_default=False)] = "",
) -> None:
    """Make a join token, and print the commands that make a host a node with it."""
    reached = api_url or session.find_target().url
    check_reachable(reached)
    labels = _labels(label or [])
    expires_in_s = seconds_of(expires_in, "--expires-in")
    made = session.ask(
        lambda client: client.join_tokens.create(
            name=name, expires_in_s=expires_in_s, max_uses=uses, labels=labels
        )
    )
    session.show(made, lambda made: write(script(made, api_url=reached, address=address)))


def script(made: JoinTokenMade, *, api_url: str, address: str | None) -> str:
    """A shell script for the new host, with two ways to run its agent.

    Args:
        made: the token.
        api_url: the api, as the new host reaches it.
        address: of the new host; None = its first one, found there.
    """
    host = "\"$(hostname -I | cut -d' ' -f1)\"" if address is None else shlex.quote(address)
    url, token = shlex.quote(api_url), shlex.quote(made.token)
    times = "once" if made.max_uses == 1 else f"for {made.max_uses} hosts"
    return f"""\
# Run one of these on the new host before {made.expires_at:%Y-%m-%d %H:%M} UTC; the token {made.id} works {times}.

# With Docker, from deploy/compose/gpu-node.yml of the same version:
PENSTOCK_JOIN_TOKEN={token} PENSTOCK_API_URL={url} PENSTOCK_NODE_ADDRESS={host} \\
  docker compose -f gpu-node.yml up -d

# Or the agent alone, from the package penstock-node-agent:
export PENSTOCK_NODE_AGENT_DATA_DIR="$PWD/node" PENSTOCK_NODE_AGENT_NODE_ADDRESS={host}
PENSTOCK_NODE_AGENT_JOIN_TOKEN={token} penstock-node-agent join --api {url}
penstock-node-agent
"""


def check_reachable(api_url: str) -> None:
    """Nothing, when other hosts may reach this.

    Raises:
        CliError: they cannot.
    """
    if (urlsplit(api_url).hostname or "") in _NO_ADDRESS:
        raise CliError(
            f"the api is at {api_url} here, where no other host reaches it; start `penstock up` "
            "with --host and this machine's address; docker-compose.yml is for one machine: for "
            "several use deploy/compose/control-plane.yml (docs/operations.md, Several hosts); if "
            "other hosts reach the api under another address, say --api-url http://ADDRESS:PORT"
        )


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (sign and name and value):
            raise CliError(f"--label '{pair}' is no label; write NAME=VALUE")
        labels[name] = value
    return labels
