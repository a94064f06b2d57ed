"""A clock that moves only when a test says so."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class ManualClock:
    """Passes for `penstock_common.clock.Clock`."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now

    def utc(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now)

    def advance(self, seconds: float) -> float:
        self._now += seconds
        return self._now
