"""When a delivery that failed is tried again [pure]."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Jitter adds up to this share of a wait, so that what failed together does not return together.
_JITTER: Final = 0.2
#: A receiver may ask for at most so long a wait.
MAX_RETRY_AFTER_S: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Waits that grow by a factor up to a cap.

    With the defaults 5 s, 15 s, 45 s … 6 h: the twelfth and last attempt is made 23 to 27 hours
    after the first.
    """

    first_s: float = 5.0
    factor: float = 3.0
    cap_s: float = 6 * 3600.0
    #: attempts in all
    attempts: int = 12

    def wait_s(self, failed: int, ratio: float) -> float | None:
        """Seconds until the next attempt; None = there is none.

        Args:
            failed: attempts so far, from 1; all have failed.
            ratio: jitter in [0, 1).
        """
        if failed >= self.attempts:
            return None
        wait_s = min(self.first_s * self.factor ** (failed - 1), self.cap_s)
        return wait_s * (1 + _JITTER * ratio)


def parse_retry_after(header: str | None, *, now: datetime) -> float | None:
    """Seconds that a `Retry-After` (RFC 9110 §10.2.3) asks for, at most six hours.

    None = it asks for nothing, or for what cannot be understood.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
