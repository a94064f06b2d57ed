"""How fast one webhook's receiver is asked [pure].

A receiver that fails time and again is asked with one delivery at a time and growing pauses, so what
waits for it stays in the stream unharmed instead of using up its attempts. One success, and it
gets what it can take again.
"""

from dataclasses import dataclass
from typing import Final

from penstock_api.webhooks.verdicts import Ending, Verdict

#: Requests to one receiver at once.
CONCURRENCY: Final = 8
#: From so many failures in a row on the receiver counts as failing.
FAILING_AFTER: Final = 5
FIRST_HOLD_S: Final = 1.0
MAX_HOLD_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a receiver."""

    #: attempts that failed since the last that succeeded
    failures: int = 0
    #: monotonic seconds before which it has asked for nothing …
    asked_until: float = 0.0
    #: … and before which it is spared, as it fails
    spared_until: float = 0.0

    @property
    def hold_until(self) -> float:
        """Monotonic seconds before which nothing is sent."""
        return max(self.asked_until, self.spared_until)

    def limit(self, now: float) -> int:
        """How many requests it may be sent at once."""
        if now < self.hold_until:
            return 0
        return 1 if self.failures >= FAILING_AFTER else CONCURRENCY

    def after(self, verdict: Verdict, now: float) -> "Pace":
        """What is known after an attempt."""
        if verdict.ending is Ending.DELIVERED:
            return Pace(asked_until=self.asked_until)
        failures = self.failures + 1
        spared_until = self.spared_until
        if failures >= FAILING_AFTER:
            doublings = min(failures - FAILING_AFTER, 16)
            spare_s = min(FIRST_HOLD_S * 2**doublings, MAX_HOLD_S)
            spared_until = max(spared_until, now + spare_s)
        return Pace(failures, max(self.asked_until, now + verdict.hold_s), spared_until)
