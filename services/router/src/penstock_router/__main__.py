"""The `penstock-router` process."""

import asyncio
import gc
import sys
from typing import Final

from pydantic import ValidationError

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.logs import configure_logs
from penstock_common.open_files import raise_open_files
from penstock_router.app import serve
from penstock_router.settings import RouterSettings

#: Objects made and not freed between two runs of the garbage collector.
_GC_THRESHOLD: Final = 20_000


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
        raise_open_files()
        # What is loaded by now stays, so the collector need not look at it again; requests make no
        # cycles, so it need not look after every 700 of them that are under way either.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD, 20, 20)
        await serve(stopping, settings, SystemClock())

    sys.exit(lifecycle.run(serve_until))


async def _fail(error: MisconfiguredError) -> None:
    raise error


if __name__ == "__main__":
    main()
