"""How fast requests arrive, over two windows.

The long window says what the load usually is, the short one what it is right now; chance moves the
short one far more. So the long one counts for as long as it can explain the short one. When more
arrived in the short window than three standard deviations above what the long one lets expect
(arrivals of independent callers: the deviation of a count is its root), a *burst* fires, and the
short window counts until it no longer stands out; likewise when far fewer arrive, or none.

    60 a minute are 5 in 5 s, give or take 2.2: 11 in 5 s still count as 60 a minute, 13 do not.

Many that come at one instant are a batch and no rate: they wait, which says all there is to say.
So the fullest moment of a window counts no more than the second fullest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

#: The window that sees bursts.
SHORT_S: Final = 5.0
#: The longest long window; an endpoint with a shorter idle timeout has one as long as that.
LONG_S: Final = 60.0
#: Arrivals within so many seconds are remembered together.
_GRAIN_S: Final = 0.2
_DEVIATIONS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrivals of the long window. Immutable; `Arrivals()` at first."""

    #: router → the counter last seen
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: (when, how many), oldest first
    recent: tuple[tuple[float, int], ...] = ()
    #: monotonic seconds since when counters are watched; None = not yet
    since: float | None = None

    def count(self, counters: Mapping[str, int], now: float) -> "Arrivals":
        """With what arrived since the last call."""
        arrived = 0
        for router, counter in counters.items():
            before = self.counters.get(router)
            if before is not None:  # the first word of a router says nothing of when they arrived
                arrived += counter - before if counter >= before else counter
        recent = self.recent
        if recent and now - recent[0][0] >= LONG_S:
            recent = tuple(a for a in recent if now - a[0] < LONG_S)
        if arrived and recent and now - recent[-1][0] < _GRAIN_S:
            recent = (*recent[:-1], (recent[-1][0], recent[-1][1] + arrived))
        elif arrived:
            recent = (*recent, (now, arrived))
        since = now if self.since is None and counters else self.since
        if not arrived and recent is self.recent and counters == self.counters:
            return self if since == self.since else replace(self, since=since)
        return Arrivals(dict(counters), recent, since)

    def rate(self, now: float, long_s: float) -> "Rate":
        """What to reckon with.

        Args:
            now: monotonic seconds, not before the last `count`.
            long_s: length of the long window.
        """
        long_s = min(max(long_s, SHORT_S), LONG_S)
        if self.since is not None:
            long_s = min(long_s, max(SHORT_S, now - self.since))
        short, long = self._within(SHORT_S, now), self._within(long_s, now)
        expected = long * SHORT_S / long_s
        margin = _DEVIATIONS * math.sqrt(expected)
        burst = short > expected + margin + 1
        if burst or not short or short < expected - margin:
            return Rate(short / SHORT_S, SHORT_S, burst=burst)
        return Rate(long / long_s, long_s)

    def _within(self, window_s: float, now: float) -> int:
        total = fullest = second = 0
        for at, n in reversed(self.recent):
            if now - at >= window_s:
                break
            total += n
            if n > fullest:
                fullest, second = n, fullest
            elif n > second:
                second = n
        return total - fullest + second


@dataclass(frozen=True, slots=True)
class Rate:
    """Arrivals to reckon with."""

    per_s: float = 0.0
    #: over how many seconds they were counted
    window_s: float = SHORT_S
    #: whether far more arrive than the long window lets expect
    burst: bool = False
