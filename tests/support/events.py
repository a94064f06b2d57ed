"""A publisher of events at work, and what lies in the stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from penstock_common import subjects
from penstock_common.errors import PenstockError
from penstock_common.events.catalogue import EventType
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import Message
from penstock_common.nats.connection import Bus
from penstock_common.nats.stream_reader import StreamReader
from tests.support.cloud_events import read_message


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


async def stored_events(
    bus: Bus, subject: str = subjects.EVENTS_ALL, *, at_least: int
) -> list[tuple[EventType[Any], Message]]:
    """Row of the catalogue and data of each event in the stream, once they are so many.

    Who listens instead may miss one while its connection is lost.
    """
    reader = StreamReader(bus, subjects.EVENTS)
    async with asyncio.timeout(60):
        while True:
            with suppress(PenstockError):
                found = (await reader.after(0, subject)).messages
                if len(found) >= at_least:
                    break
            await asyncio.sleep(0.05)
    return [read_message(replace(m, subject=m.headers["Nats-Subject"])) for m in found]
