"""This node's rows of a bucket of statuses as they should be, and the writing until they are.

Level-triggered: `put` says how a row should be and returns at once. Each row has at most one write
under way; what changes meanwhile is written after it, only the newest. A write that fails is
repeated, at once after a reconnect. What ends up in KV otherwise (a lost bucket, a write of a
connection thought dead) is seen by `compare` and put right.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from penstock_common.errors import MessageTooLargeError, PenstockError
from penstock_common.messages import Message
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Row

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Message)

_MIN_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 2.0


class StatusBoard(Generic[S]):
    """Keeps the rows of one node in one bucket."""

    def __init__(self, bus: Bus, bucket: Bucket) -> None:
        self._bus = bus
        self._bucket = bucket
        #: how each row should be; None = gone
        self._wanted: dict[str, S | None] = {}
        #: rows to write
        self._dirty: set[str] = set()
        #: rows being written
        self._busy: set[str] = set()
        #: rows that were wrong when last compared
        self._suspect: set[str] = set()
        self._wake = asyncio.Event()
        self._reconnected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def unwritten(self) -> int:
        """Rows whose last change is not acknowledged."""
        return len(self._dirty | self._busy)

    def knows(self, key: str) -> bool:
        """Whether it was told how the row should be."""
        return key in self._wanted

    def put(self, key: str, status: S) -> None:
        """The row should be this."""
        self._want(key, status)

    def delete(self, key: str) -> None:
        """The row should not be."""
        self._want(key, None)

    def _want(self, key: str, status: S | None) -> None:
        self._wanted[key] = status
        self._dirty.add(key)
        self._idle.clear()
        self._wake.set()

    def compare(self, rows: Mapping[str, Row[S]]) -> None:
        """Write again what is not in KV as it should be.

        A row counts as wrong when it was wrong at the last call too: a table may lag behind a
        write for a moment. Call it about once a second, with a synced table.
        """
        wrong = {
            key
            for key in {*rows, *self._wanted}
            if key not in self._dirty and key not in self._busy and self._is_wrong(key, rows)
        }
        for key in wrong & self._suspect:
            logger.warning(
                "status in KV is not as written, writing it again",
                extra={"action": "status_repaired", "key": key},
            )
            self._want(key, self._wanted.get(key))
        self._suspect = wrong

    def _is_wrong(self, key: str, rows: Mapping[str, Row[S]]) -> bool:
        row = rows.get(key)
        return (row.value if row is not None else None) != self._wanted.get(key)

    async def run(self) -> None:
        """Write, for ever."""
        remove: Callable[[], None] = self._bus.on_connect(self._reconnected.set)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    for key in self._dirty - self._busy:
                        self._busy.add(key)
                        group.create_task(self._write(key), name=f"status {key}")
        finally:
            remove()

    async def flush(self, wait_s: float) -> bool:
        """Wait until everything is written; False when that takes longer than `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, key: str) -> None:
        failures = 0
        try:
            while key in self._dirty:
                self._dirty.discard(key)
                self._reconnected.clear()
                try:
                    await self._write_once(key)
                    failures = 0
                except MessageTooLargeError as error:
                    logger.error(
                        "status is too large for NATS, not written",
                        extra={"action": "status_too_large", "key": key, "error": str(error)},
                    )
                except PenstockError as error:
                    self._dirty.add(key)
                    failures += 1
                    logger.info(
                        "status not written, trying again",
                        extra={"action": "status_retried", "key": key, "error": str(error)},
                    )
                    await self._pause(failures)
        finally:
            self._busy.discard(key)
            if not self._dirty and not self._busy:
                self._idle.set()

    async def _write_once(self, key: str) -> None:
        status = self._wanted[key]
        if status is not None:
            await self._bucket.put(key, status.encode())
            return
        await self._bucket.delete(key)
        if self._wanted[key] is None:
            del self._wanted[key]

    async def _pause(self, failures: int) -> None:
        pause_s = min(_MIN_PAUSE_S * 2 ** min(failures - 1, 8), _MAX_PAUSE_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._reconnected.wait()
        except TimeoutError:
            return
