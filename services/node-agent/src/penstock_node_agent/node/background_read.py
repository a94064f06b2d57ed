"""A value that is read in the background, so that nobody waits for a read that hangs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from penstock_common.errors import PenstockError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class BackgroundRead(Generic[_T]):
    """The newest value that was read; at most one read is under way."""

    def __init__(self, name: str, read: Callable[[], Awaitable[_T]], first: _T) -> None:
        """Nothing is read yet; `first` counts until something is."""
        self._name = name
        self._read = read
        self._value = first
        self._reading: asyncio.Task[_T] | None = None

    async def newest(self, *, again: bool, wait_s: float) -> _T:
        """What was read last.

        Args:
            again: begin a read, unless one is under way.
            wait_s: how long to wait for the read under way.
        """
        if self._reading is None and again:
            self._reading = asyncio.create_task(self._take(), name=f"read {self._name}")
        if (reading := self._reading) is not None:
            await asyncio.wait({reading}, timeout=wait_s)
            if reading.done() and self._reading is reading:  # else another one has taken it
                self._reading = None
                try:
                    self._value = reading.result()
                except PenstockError as error:
                    logger.warning(
                        "%s not read",
                        self._name,
                        extra={"action": f"{self._name}_unread", "error": str(error)},
                    )
        return self._value

    async def close(self) -> None:
        """Drop the read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None

    async def _take(self) -> _T:
        return await self._read()
