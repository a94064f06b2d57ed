"""A publisher of events at work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from penstock_common.events.publisher import EventPublisher


@asynccontextmanager
async def publishing(publisher: EventPublisher) -> AsyncIterator[None]:
    """The publisher runs meanwhile."""
    task = asyncio.create_task(publisher.run(), name="events")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
