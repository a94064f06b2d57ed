"""Which of two revisions takes the next request, in exact proportion [pure].

Error accumulation: each request adds `percent` to what the canary is owed, and one that the canary
takes costs 100. The canary takes a request when it is owed at least one, so that its share is off by
less than one request, however many there were. When only the other side has a free slot, that side
takes the request, and the debt stays, up to `MOST_OWED` requests either way: a side that was full
for long does not get everything for as long afterwards.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

from penstock_router.picker import Candidate

C = TypeVar("C", bound=Candidate)

#: Requests that one side can owe the other.
MOST_OWED: Final = 10


class Split:
    """What the canary of one endpoint is owed at one router."""

    def __init__(self, percent: int) -> None:
        """Nothing is owed yet; `percent`: the canary's share, 1 to 99."""
        self.percent = percent
        #: workers of the canary
        self.canary: frozenset[str] = frozenset()
        # hundredths of a request; from half of one on, so that shares are rounded, not cut off
        self._owed = 50

    def choose(self, candidates: Sequence[C]) -> list[C]:
        """Those candidates of which one takes the next request; none only when there are none.

        The request is counted: one of them has to take it.
        """
        if not candidates:
            return []
        own = [c for c in candidates if c.worker_id in self.canary]
        others = [c for c in candidates if c.worker_id not in self.canary]
        self._owed += self.percent
        if own and (self._owed >= 100 or not others):
            self._owed = max(self._owed - 100, -100 * MOST_OWED)
            return own
        self._owed = min(self._owed, 100 * MOST_OWED)
        return others
