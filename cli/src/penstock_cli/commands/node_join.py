"""`penstock node join`: what to run on a new GPU host."""

import json
import re
import shlex
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from penstock_cli.exits import CliError
from penstock_cli.local.data_dir import NATS_USER
from penstock_cli.options import DEFAULT_DATA, DataOption

#: Where other hosts cannot reach, or which is no address to reach at all.
_NO_ADDRESS: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::", ""})  # noqa: S104
_LISTEN: Final = re.compile(r'^listen: "(?P<address>.+)"$', re.MULTILINE)


def join(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the new host, as routers reach it; left out = its first one.",
            show_default=False,
        ),
    ] = None,
    nats_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="NATS, as the new host reaches it; left out = as this installation listens.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Print the commands that make a host a node; they hold this installation's secrets."""
    typer.echo(
        script(
            nats_url=nats_url or find_nats_url(data),
            password=_secret(data, "nats.password"),
            secret_key=_secret(data, "secret.key"),
            address=address,
        ),
        nl=False,
    )


def script(*, nats_url: str, password: str, secret_key: str, address: str | None) -> str:
    """A shell script for the new host: its keys, and two ways to run its agent.

    Args:
        nats_url: NATS, as the new host reaches it.
        password: of NATS's user.
        secret_key: the key that opens secrets.
        address: of the new host; None = its first one, found there.
    """
    host = "\"$(hostname -I | cut -d' ' -f1)\"" if address is None else shlex.quote(address)
    url = shlex.quote(nats_url)
    return f"""\
# Run on the new host, in a folder of its own. The keys open every secret: keep them from others.
mkdir -p keys && chmod 700 keys
(umask 077
printf '%s\\n' {shlex.quote(password)} > keys/nats.password
printf '%s\\n' {shlex.quote(secret_key)} > keys/secret.key)

# Either with Docker, from deploy/compose/gpu-node.yml of the same version:
PENSTOCK_NATS_URL={url} PENSTOCK_NODE_ADDRESS={host} PENSTOCK_KEYS="$PWD/keys" \\
  docker compose -f gpu-node.yml up -d

# Or the agent alone, from the package penstock-node-agent:
PENSTOCK_NODE_AGENT_NATS_URL={url} \\
PENSTOCK_NODE_AGENT_NATS_USER={NATS_USER} \\
PENSTOCK_NODE_AGENT_NATS_PASSWORD="$(cat keys/nats.password)" \\
PENSTOCK_NODE_AGENT_SECRET_KEY_FILE="$PWD/keys/secret.key" \\
PENSTOCK_NODE_AGENT_NODE_ADDRESS={host} \\
PENSTOCK_NODE_AGENT_DATA_DIR="$PWD/node" \\
  penstock-node-agent
"""


def find_nats_url(data: Path) -> str:
    """Where this installation's NATS is reached from other hosts.

    Raises:
        CliError: there is none here, or only this machine reaches it.
    """
    path = data / "nats.conf"
    try:
        listens = _LISTEN.search(path.read_text())
    except OSError as error:
        raise CliError(
            f"{path} cannot be read: {error.strerror}; name the data directory of the "
            "installation with --data, or its NATS with --nats-url"
        ) from None
    listen = json.loads(f'"{listens["address"]}"') if listens else ""
    url = f"nats://{listen}"
    if (urlsplit(url).hostname or "") in _NO_ADDRESS:
        raise CliError(
            f"NATS listens on {listen or 'an unknown address'}, which tells no other host how to "
            "reach it; start `penstock up` with --host and this machine's address, or say it with "
            "--nats-url nats://ADDRESS:PORT"
        )
    return url


def _secret(data: Path, name: str) -> str:
    path = data / name
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise CliError(
            f"{path} cannot be read: {error.strerror}; name the data directory of the "
            "installation with --data"
        ) from None
    if not text:
        raise CliError(f"{path} is empty")
    return text
