"""`penstock-node-agent`: runs the agent of this node.

`penstock-node-agent join --api URL` instead makes this host a node by a join token, and keeps what
the agent needs for later starts. `penstock-node-agent stop-workers` ends the process workers that a
killed agent left in its data directory, and needs no NATS for that.
"""

import argparse
import sys
from collections.abc import Sequence

from pydantic import SecretStr, ValidationError

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.logs import configure_logs
from penstock_node_agent.app import join_once, serve, stop_workers
from penstock_node_agent.settings import Settings

_STDIN = "-"


def main() -> None:
    """Run the agent; exits 0 when told to stop, 2 on wrong settings, 1 on any other failure."""
    asked = _parse(sys.argv[1:])
    try:
        settings = Settings()
    except ValidationError as error:
        configure_logs("node-agent", "info")
        problem = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        sys.exit(lifecycle.run(lambda _stopping: _refuse(problem)))
    configure_logs("node-agent", settings.log_level)
    clock = SystemClock()
    match asked.command:
        case "stop-workers":
            code = lifecycle.run(lambda _stopping: stop_workers(settings))
        case "join":
            told = _told(settings, asked)
            code = lifecycle.run(lambda _stopping: join_once(told, clock))
        case _:
            code = lifecycle.run(lambda stopping: serve(settings, clock, stopping))
    sys.exit(code)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "penstock-node-agent", description="Runs the agent of this node.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("stop-workers", help="End the process workers that a killed agent left.")
    join = commands.add_parser("join", help="Make this host a node by a join token.")
    join.add_argument("--api", metavar="URL", help="The api, e.g. http://10.0.0.1:8000.")
    join.add_argument(
        "--token", help="The token; - = standard input; else PENSTOCK_NODE_AGENT_JOIN_TOKEN."
    )
    return parser.parse_args(words)


def _told(settings: Settings, asked: argparse.Namespace) -> Settings:
    """The settings with what the command line says."""
    said: dict[str, object] = {}
    if asked.api is not None:
        said["join_api_url"] = asked.api
    if asked.token is not None:
        token = sys.stdin.readline() if asked.token == _STDIN else asked.token
        said["join_token"] = SecretStr(token)
    return settings.model_copy(update=said)


async def _refuse(problem: str) -> None:
    raise lifecycle.MisconfiguredError(problem)


if __name__ == "__main__":
    main()
