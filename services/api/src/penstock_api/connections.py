"""Closes connections that send no request head: aiohttp itself would wait for ever.

aiohttp bounds a kept connection's idle time, so only the first request of a connection needs a
watch. The app marks a connection when a request of it arrives; the sweep closes those unmarked
for longer than the limit.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from aiohttp import web

SWEEP_S: Final = 1.0


class Connection(Protocol):
    """What the sweep needs of aiohttp's connections (hashable by identity)."""

    def force_close(self) -> None:
        """Close it now."""
        ...


class ConnectionSweep:
    """Knows which connections have sent a request head."""

    def __init__(self, head_timeout_s: float) -> None:
        self._head_timeout_s = head_timeout_s
        self._heard: set[Connection] = set()
        self._first_seen: dict[Connection, float] = {}

    def note(self, request: web.Request) -> None:
        """Remember that this request's connection has sent a head."""
        self._heard.add(request.protocol)

    async def run(
        self, connections: Callable[[], Collection[Connection]], monotonic: Callable[[], float]
    ) -> None:
        """Sweep for ever."""
        while True:
            self.tick(connections(), monotonic())
            await asyncio.sleep(SWEEP_S)

    def tick(self, connections: Collection[Connection], now: float) -> int:
        """Close those of the open connections that stayed silent too long; says how many."""
        self._heard.intersection_update(connections)
        silent = set(connections) - self._heard
        self._first_seen = {
            connection: self._first_seen.get(connection, now) for connection in silent
        }
        late = [
            connection
            for connection, since in self._first_seen.items()
            if now - since > self._head_timeout_s
        ]
        for connection in late:
            connection.force_close()
        return len(late)
