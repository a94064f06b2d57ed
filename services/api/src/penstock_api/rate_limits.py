"""How often a caller may ask: a token bucket for each [pure].

A bucket holds `burst` tokens and gains `rate` of them a second; a request takes one. Who finds none
is told when the next is there. A bucket that has filled up again is forgotten, as it is like a new
one, so memory grows with the callers of the last `burst / rate` seconds alone.
"""

from dataclasses import dataclass
from typing import Final

#: Buckets beyond which full ones are looked for at each request.
_SWEEP_ABOVE: Final = 1_024


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimits:
    """The buckets of all callers."""

    def __init__(self, rate: float, burst: int) -> None:
        """Tokens a second, and the most that a bucket holds; both above 0."""
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._buckets)

    def take(self, caller: str, now: float) -> float:
        """0.0 when the caller may go on, else after how many seconds it may.

        Args:
            caller: any name; equal ones share a bucket.
            now: monotonic seconds; must not go back between calls.
        """
        if len(self._buckets) >= _SWEEP_ABOVE:
            self._forget_full(now)
        bucket = self._buckets.setdefault(caller, _Bucket(float(self._burst), now))
        bucket.tokens = self._filled(bucket, now)
        bucket.at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._rate

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(float(self._burst), bucket.tokens + (now - bucket.at) * self._rate)

    def _forget_full(self, now: float) -> None:
        full = [c for c, b in self._buckets.items() if self._filled(b, now) >= self._burst]
        for caller in full:
            del self._buckets[caller]
