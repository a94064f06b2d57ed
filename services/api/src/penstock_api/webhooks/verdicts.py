"""What follows from a receiver's answer, or from none [pure]."""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from penstock_api.webhooks.schedule import RetrySchedule

#: With these statuses a receiver may say when it wants to be asked again.
_ASK_LATER: Final = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS.value, HTTPStatus.SERVICE_UNAVAILABLE.value}
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A receiver has answered."""

    status: int
    #: what its `Retry-After` asks for
    retry_after_s: float | None = None
    #: beginning of the body
    response: str = ""

    @property
    def error(self) -> str | None:
        """Why this is no success, one sentence; None = it is one."""
        if 200 <= self.status < 300:
            return None
        if 300 <= self.status < 400:
            return f"the receiver answered {self.status}; redirects are not followed"
        return f"the receiver answered {self.status}"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There was no answer."""

    #: why, one sentence
    error: str


Result = Answered | Unanswered


class Ending(StrEnum):
    """How an attempt ends."""

    DELIVERED = "delivered"
    AGAIN = "again"  # it is tried again
    GIVEN_UP = "given_up"  # that was the last attempt
    GONE = "gone"  # the receiver wants nothing any more: the webhook is disabled


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done after an attempt."""

    ending: Ending
    #: until the next attempt; 0 unless there is one
    wait_s: float = 0.0
    #: the receiver wants nothing at all for so long
    hold_s: float = 0.0


def judge(result: Result, *, attempt: int, schedule: RetrySchedule, ratio: float) -> Verdict:
    """What follows from the result of an attempt.

    Args:
        result: what came of it.
        attempt: which it was, from 1.
        schedule: of further attempts.
        ratio: jitter in [0, 1).
    """
    hold_s = 0.0
    if isinstance(result, Answered):
        if result.error is None:
            return Verdict(Ending.DELIVERED)
        if result.status == HTTPStatus.GONE:
            return Verdict(Ending.GONE)
        if result.status in _ASK_LATER:
            hold_s = result.retry_after_s or 0.0
    wait_s = schedule.wait_s(attempt, ratio)
    if wait_s is None:
        return Verdict(Ending.GIVEN_UP, hold_s=hold_s)
    return Verdict(Ending.AGAIN, max(wait_s, hold_s), hold_s)
