"""A loop whose time stands still until a test moves it; all else is that of the loop that runs."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any


class HeldTimer:
    """Passes for an `asyncio.TimerHandle`."""

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._callback: Callable[..., object] | None = callback
        self._arguments = arguments

    def cancel(self) -> None:
        self._callback = None

    def run(self) -> None:
        if self._callback is not None:
            self._callback(*self._arguments)


class HeldTime:
    """What a part takes for its loop: no stall of the machine makes one of its times come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = 1_000.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, HeldTimer]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._now

    def call_at(self, at: float, callback: Callable[..., object], *arguments: Any) -> HeldTimer:
        timer = HeldTimer(callback, arguments)
        heapq.heappush(self._timers, (at, next(self._order), timer))
        return timer

    def call_later(self, s: float, callback: Callable[..., object], *arguments: Any) -> HeldTimer:
        return self.call_at(self._now + s, callback, *arguments)

    def advance(self, seconds: float) -> None:
        """So much later, with all that was to be done by then done at its time."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, at)
            timer.run()
        self._now = end
