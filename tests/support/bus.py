"""Buses for tests that talk to a real server, and waiting for what must come true."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from penstock_common.clock import Clock, SystemClock
from penstock_common.nats.connection import Bus, Received, Stored
from penstock_common.settings import NatsSettings


class PatientBus(Bus):
    """Waits a minute for an answer.

    A service gives up after two seconds and tries again; a test that writes or asks does it once,
    also of a server whose disk takes three seconds to sync.
    """

    @override
    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
    ) -> Received:
        return await super().request(subject, data, timeout_s=timeout_s, headers=headers)

    @override
    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
    ) -> Stored:
        return await super().store(subject, data, timeout_s=timeout_s, headers=headers)

    @override
    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0
    ) -> Mapping[str, Any]:
        return await super().api(verb, body, timeout_s=timeout_s)


@asynccontextmanager
async def connected(
    url: str, *, name: str = "test", clock: Clock | None = None
) -> AsyncIterator[Bus]:
    """A bus that is closed afterwards."""
    bus = await PatientBus.connect(
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
