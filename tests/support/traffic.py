"""Steady requests to an endpoint of an installation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.installation import CLOCK, Installation, eventually

RATE_PER_S = 50


@asynccontextmanager
async def traffic(penstock: Installation, app: str = "gauge") -> AsyncIterator[list[int]]:
    """About 50 requests a second, each sent when it is due; gives their statuses as they come."""
    statuses: list[int] = []
    stop = asyncio.Event()

    async def one() -> None:
        status, _ = await penstock.get(app, "/?ms=20")
        statuses.append(status)

    async def generate(group: asyncio.TaskGroup) -> None:
        started, n = CLOCK.monotonic(), 0
        while not stop.is_set():
            group.create_task(one())
            n += 1
            await asyncio.sleep(max(0.0, started + n / RATE_PER_S - CLOCK.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(generate(group))
        try:
            yield statuses
        finally:
            stop.set()


async def enough(statuses: list[int], n: int) -> None:
    """Wait for so many answers in all."""

    async def there() -> bool:
        return len(statuses) >= n

    await eventually(there, f"{n} answers", within_s=60)
