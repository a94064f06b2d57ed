"""This router's record in ROUTERS: written every few seconds, gone when the router is."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.messages import RouterRecord
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket

logger = logging.getLogger(__name__)

PERIOD_S: Final = 3.0
#: Pause after a beat that NATS did not take: a bucket without a leader has one within seconds.
RETRY_S: Final = 1.0
TTL_S: Final = 10
#: At a stop, longest wait for NATS to take the record away.
_REMOVE_TIMEOUT_S: Final = 1.0


class Heartbeat:
    """Keeps the record alive."""

    def __init__(
        self, bus: Bus, router_id: str, record: Callable[[int], RouterRecord], clock: Clock
    ) -> None:
        """A heart that does not beat yet.

        Args:
            bus: a connection of its own, so that traffic never delays a beat.
            router_id: key of the record.
            record: the record of this beat, counted from 1.
            clock: tells how old the record is.
        """
        self._bus = bus
        self._bucket = Bucket(bus, subjects.ROUTERS)
        self._router_id = router_id
        self._record = record
        self._beat = 0
        #: when the last beat that was written began, in monotonic seconds
        self.written_at = clock.monotonic()
        self._clock = clock
        self._due = asyncio.Event()
        bus.on_connect(self._due.set)  # the bucket lies in memory: it may have come back empty

    async def beat(self) -> None:
        """Write the record once.

        Raises:
            PenstockError: NATS is away, or did not take it.
        """
        self._beat += 1
        began_at = self._clock.monotonic()
        record = self._record(self._beat)
        await self._bucket.put(self._router_id, record.encode(), ttl_s=TTL_S)
        self.written_at = began_at

    async def run(self) -> None:
        """Beat for ever."""
        pause_s = PERIOD_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._due.wait()
            except TimeoutError:
                pass  # the ordinary beat
            self._due.clear()
            if not self._bus.connected:
                continue
            pause_s = PERIOD_S
            try:
                await self.beat()
            except PenstockError as error:
                pause_s = RETRY_S
                logger.warning(
                    "heartbeat not written",
                    extra={"action": "heartbeat_failed", "error": str(error)},
                )

    async def remove(self) -> None:
        """Take the record away, so that others need not wait for its end."""
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                record = self._record(self._beat).model_copy(update={"left": True})
                await self._bucket.put(self._router_id, record.encode(), ttl_s=TTL_S)
                await self._bucket.delete(self._router_id)
        except (PenstockError, TimeoutError) as error:
            logger.warning(
                "record not removed, it will expire",
                extra={"action": "record_not_removed", "error": str(error)},
            )
