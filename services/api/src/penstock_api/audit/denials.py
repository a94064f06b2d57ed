"""Requests that were refused for want of a key or a right, counted instead of kept one by one [pure].

Who guesses keys sends many of them. Those alike (same caller, address, action and status) of one
window make one record with a count, and a window has at most `MAX_ALIKE` of these: all others make
one more, which says how many they were.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_common.messages import AuditRecord

#: Records of one window, but for the one about the rest.
MAX_ALIKE: Final = 16
#: Of the record about the rest.
OTHERS: Final = "(others)"


@dataclass(frozen=True, slots=True)
class Denial:
    """A request that was refused: what requests alike have in common."""

    #: the caller, if its key was good once or has too little right
    key_id: str | None
    key_name: str
    source: str
    action: str
    route: str
    status: int
    reason: str


_REST: Final = Denial(None, "", "", OTHERS, OTHERS, 401, OTHERS)


@dataclass(slots=True)
class _Count:
    n: int
    first_at: datetime
    last_at: datetime
    #: of the first
    request_id: str


class Denials:
    """The refusals of the window under way."""

    def __init__(self) -> None:
        self._counts: dict[Denial, _Count] = {}

    def note(self, denial: Denial, request_id: str, now: datetime) -> None:
        """One more."""
        if denial not in self._counts and len(self._counts) >= MAX_ALIKE:
            denial, request_id = _REST, ""
        count = self._counts.setdefault(denial, _Count(0, now, now, request_id))
        count.n += 1
        count.last_at = now

    def take(self, new_id: str) -> list[AuditRecord]:
        """The records of the window, which ends with this; `new_id` is the beginning of their ids."""
        counts, self._counts = self._counts, {}
        return [
            AuditRecord(
                audit_id=f"{new_id}-{place}",
                at=count.first_at,
                last_at=count.last_at,
                count=count.n,
                request_id=count.request_id,
                key_id=denial.key_id,
                key_name=denial.key_name,
                source=denial.source,
                action=denial.action,
                route=denial.route,
                status=denial.status,
                reason=denial.reason,
            )
            for place, (denial, count) in enumerate(counts.items())
        ]
