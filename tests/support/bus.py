"""Buses for tests that talk to a real server, and waiting for what must come true."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from typing_extensions import override

from penstock_common.clock import Clock, SystemClock
from penstock_common.nats.connection import Bus, Received
from penstock_common.settings import NatsSettings


class PatientBus(Bus):
    """For who plays the other services: 2 s without an answer, as in a stall, end no test."""

    @override
    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
    ) -> Received:
        return await super().request(subject, data, timeout_s=max(timeout_s, 60.0), headers=headers)


@asynccontextmanager
async def connected(
    url: str, *, name: str = "test", clock: Clock | None = None
) -> AsyncIterator[Bus]:
    """A bus that is closed afterwards."""
    bus = await Bus.connect(
        NatsSettings(nats_url=url), name=name, clock=clock or SystemClock(), wait_s=60.0
    )
    try:
        yield bus
    finally:
        await bus.close()


async def eventually(condition: Callable[[], object], *, within_s: float = 60.0) -> float:
    """Wait until `condition` is true; gives the seconds it took, fails after `within_s`."""
    started = time.monotonic()  # noqa: TID251  # real time, of a real server
    while not condition():
        waited = time.monotonic() - started  # noqa: TID251
        assert waited < within_s, f"not within {within_s} s: {condition}"
        await asyncio.sleep(0.005)
    return time.monotonic() - started  # noqa: TID251
