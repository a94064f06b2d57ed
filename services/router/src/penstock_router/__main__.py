"""The `penstock-router` process."""

import asyncio
import sys

from pydantic import ValidationError

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.logs import configure_logs
from penstock_router.app import serve
from penstock_router.settings import RouterSettings


def main() -> None:
    """Run a router as the environment says; ends the process."""
    try:
        settings = RouterSettings()
    except ValidationError as error:
        configure_logs("router", "info")
        problem = MisconfiguredError(str(error))
        sys.exit(lifecycle.run(lambda _: _fail(problem)))
    configure_logs("router", settings.log_level)

    async def serve_until(stopping: asyncio.Event) -> None:
        await serve(stopping, settings, SystemClock())

    sys.exit(lifecycle.run(serve_until))


async def _fail(error: MisconfiguredError) -> None:
    raise error


if __name__ == "__main__":
    main()
