"""Clocks that move when a test says so."""

from datetime import UTC, datetime, timedelta

from penstock_common.clock import SystemClock

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class LeapingClock:
    """The machine's clock, which a test may put ahead."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._ahead_s

    def utc(self) -> datetime:
        return self._clock.utc() + timedelta(seconds=self._ahead_s)

    def leap(self, seconds: float) -> None:
        self._ahead_s += seconds


class ManualClock:
    """Passes for `penstock_common.clock.Clock`, and stands still otherwise."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now

    def utc(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now)

    def advance(self, seconds: float) -> float:
        self._now += seconds
        return self._now
