"""Whether a request that failed is sent again, and when [pure].

Theory of operation. A request may be sent again when a repeat does no harm: it reads; or it was
refused before anything was done; or it carries an `Idempotency-Key`, by which the api does it once
and answers it again. The pauses grow exponentially with full jitter (any length from nothing up to
the bound), so that many clients of an api that was away do not return together. `Retry-After`
counts instead, where the api sent it. The number of attempts and the total time are both bounded.
"""

import enum
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Of an answer that says: not now.
_NOT_NOW: Final = frozenset({429, 502, 503, 504})
_CONFLICT: Final = 409
#: The first request with this Idempotency-Key is not answered yet.
_UNDER_WAY: Final = "request_under_way"
#: It may have been written, and the api forgets its Idempotency-Key.
_MAYBE_WRITTEN: Final = "nats_timeout"


class Repeatable(enum.Enum):
    """What happens when the same request is done once more."""

    #: nothing: it reads, or what it does is done already
    HARMLESS = "harmless"
    #: it is not done, but answered again: it carries an Idempotency-Key
    KEYED = "keyed"
    #: it is done twice
    NO = "no"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and for how long, a request is tried."""

    #: how many times it is sent, the first included; 1 = never again
    max_attempts: int = 4
    #: bound of the pause before the second attempt; it doubles with every further one
    first_pause_s: float = 0.2
    #: bound of every pause that the api did not ask for
    longest_pause_s: float = 5.0
    #: no attempt begins later than so long after the first one began
    total_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            ValueError: a field is out of its range.
        """
        if self.max_attempts < 1:
            raise ValueError("max_attempts is 1 or more; 1 = never send again")
        if min(self.first_pause_s, self.longest_pause_s, self.total_s) < 0:
            raise ValueError("first_pause_s, longest_pause_s and total_s are 0 or more")


#: Each request is sent once.
NEVER: Final = RetryPolicy(max_attempts=1)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended that was not answered well."""

    #: of the answer; None = there was none
    status: int | None = None
    #: stable name of the api's error
    reason: str | None = None
    #: how long the api asked to wait
    retry_after_s: float | None = None
    #: false = it is known that nothing was done
    maybe_done: bool = True


def decide_pause_s(
    policy: RetryPolicy,
    failure: Failure,
    *,
    repeatable: Repeatable,
    attempt: int,
    elapsed_s: float,
    ratio: float,
) -> float | None:
    """Seconds to wait before the request is sent again; None = it is not.

    Args:
        policy: the bounds.
        failure: how the last attempt ended.
        repeatable: whether the request may be sent again at all.
        attempt: how many attempts were made, from 1.
        elapsed_s: since the first one began.
        ratio: in 0..1, the jitter.
    """
    if attempt >= policy.max_attempts or not _helps(failure, repeatable):
        return None
    bound = policy.longest_pause_s
    # From some attempt on the power is beyond what a float holds.
    if attempt < 64:
        bound = min(bound, policy.first_pause_s * 2 ** (attempt - 1))
    pause_s = ratio * bound if failure.retry_after_s is None else failure.retry_after_s
    return pause_s if elapsed_s + pause_s <= policy.total_s else None


def _helps(failure: Failure, repeatable: Repeatable) -> bool:
    """Whether another attempt may end better, and does no harm."""
    if failure.status == _CONFLICT:
        return failure.reason == _UNDER_WAY and repeatable is not Repeatable.NO
    if failure.status is not None and failure.status not in _NOT_NOW:
        return False
    if not failure.maybe_done:
        return True
    if failure.reason == _MAYBE_WRITTEN:
        return repeatable is Repeatable.HARMLESS
    return repeatable is not Repeatable.NO


def parse_retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds from `now` on that a `Retry-After` header asks to wait; None = it says nothing.

    RFC 9110 §10.2.3: a number of seconds, or a date.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:  # "-0000" says that it is UTC, and no more
        at = at.replace(tzinfo=now.tzinfo)
    return max(0.0, (at - now).total_seconds())
