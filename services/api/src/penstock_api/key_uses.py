"""Writes down when API keys were used last, at this api and at the routers.

A key is written at most once a minute and not more than `MOST_WRITES` at a look, so however many keys
and requests there are, what this costs NATS is bounded; those that had to wait go first. The apis share
the routers' reports. Nothing is owed: what is lost is made up for by the next use.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from penstock_api.store import Store
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.key_uses import EVERY_S, LOOK_S, KeyUses
from penstock_common.messages import KeyUse, KeyUseReport
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.kv import Bucket
from penstock_common.subjects import KEY_USES

logger = logging.getLogger(__name__)

#: Keys that are written at one look, every `LOOK_S`.
MOST_WRITES: Final = 50
_EVERY: Final = timedelta(seconds=EVERY_S)


class KeyUseBook:
    """The writer of the bucket KEY_USES."""

    def __init__(self, bus: Bus, store: Store, clock: Clock) -> None:
        self._bucket = Bucket(bus, KEY_USES)
        self._store = store
        self._clock = clock
        self._uses = KeyUses()

    def note(self, key_id: str) -> None:
        """This api was asked with the key just now."""
        self._uses.note(key_id, self._clock.utc())

    def hear(self, message: Received) -> None:
        """A router tells with which keys it was asked."""
        try:
            report = KeyUseReport.decode(message.data)
        except ValueError as error:
            logger.warning(
                "report of used keys unreadable",
                extra={
                    "action": "report_unreadable",
                    "subject": message.subject,
                    "error": str(error),
                },
            )
            return
        for key_id, at in report.used.items():
            self._uses.note(key_id, at)

    async def run(self) -> None:
        """Write what is due, for ever."""
        while True:
            await self.tick()
            await asyncio.sleep(LOOK_S)

    async def tick(self) -> None:
        """Write what is due now, and forget keys that are gone; a failure leaves it to the next."""
        if self._store.missing():
            return  # tables that are not current prove nothing
        now, n_written = self._clock.utc(), 0
        try:
            for key_id, at in self._uses.due(now).items():
                if n_written == MOST_WRITES:
                    break
                if self._is_news(key_id, at):
                    await self._bucket.put(key_id, KeyUse(key_id=key_id, at=at).encode())
                    n_written += 1
                self._uses.told(key_id, now)
            for key_id in tuple(self._store.key_uses.rows):
                if key_id not in self._store.api_keys.rows:
                    await self._bucket.delete(key_id)
        except PenstockError as error:
            logger.info(
                "uses of keys wait for NATS",
                extra={"action": "key_uses_wait", "error": str(error)},
            )

    def _is_news(self, key_id: str, at: datetime) -> bool:
        """Whether there is such a key, and no use of it within the minute before is written."""
        if key_id not in self._store.api_keys.rows:
            return False
        shown = self._store.last_use(key_id)
        return shown is None or at - shown >= _EVERY
