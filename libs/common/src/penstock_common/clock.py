"""The one place that reads the clock. Shells read it once per tick and pass `now` on."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What a shell asks the time of; tests pass `tests.fakes.clock.ManualClock`."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, never going back: for durations and deadlines."""
        ...

    def utc(self) -> datetime:
        """The aware UTC instant: for what is stored, shown, or compared between hosts."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def utc(self) -> datetime:
        """The aware UTC instant now."""
        return datetime.now(UTC)
