"""`penstock-node-agent`: runs the agent of this node.

`penstock-node-agent stop-workers` instead ends the process workers that a killed agent left in its
data directory, and needs no NATS for that.
"""

import sys

from pydantic import ValidationError

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.logs import configure_logs
from penstock_node_agent.app import serve, stop_workers
from penstock_node_agent.settings import Settings


def main() -> None:
    """Run the agent; exits 0 when told to stop, 2 on wrong settings, 1 on any other failure."""
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
    if sys.argv[1:] == ["stop-workers"]:
        sys.exit(lifecycle.run(lambda _stopping: stop_workers(settings)))
    if sys.argv[1:]:
        problem = f"no such command: {' '.join(sys.argv[1:])}; there is stop-workers"
        sys.exit(lifecycle.run(lambda _stopping: _refuse(problem)))
    sys.exit(lifecycle.run(lambda stopping: serve(settings, SystemClock(), stopping)))


async def _refuse(problem: str) -> None:
    raise lifecycle.MisconfiguredError(problem)


if __name__ == "__main__":
    main()
