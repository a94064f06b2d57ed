"""A decayed sketch of durations: quantiles of the recent ones, in little space [pure].

Theory of operation. Durations fall into buckets whose bounds grow by a constant factor g (gamma in
DDSketch, Masson et al. 2019): bucket i holds (g^(i-1), g^i], and its middle 2g^i/(g+1) is off by at
most `ACCURACY` of any duration in it. Sketches of several routers are merged by adding. A newer
duration counts more: instead of shrinking what is there at each tick, the weight of what is added
grows with time (forward decay, Cormode et al. 2009), and the sketch is divided by it when read.

Adding is a logarithm and a dictionary's entry; the clock is read when the sketch is read.
"""

import math
from collections.abc import Iterable
from typing import Final

#: Buckets with anything in them: (index, weight); a duration that was just added weighs 1.
Buckets = tuple[tuple[int, float], ...]

#: No estimate is off by more than this share of the true duration.
ACCURACY: Final = 0.05
#: What was added so many seconds ago counts half.
HALF_LIFE_S: Final = 60.0

_GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG: Final = 1 / math.log(_GAMMA)
#: Shorter and longer durations count as these: 1 µs, and 12 days.
_SHORTEST_S: Final = 1e-6
_LONGEST_S: Final = 1e6
_LOWEST: Final = math.ceil(math.log(_SHORTEST_S) * _PER_LOG)
_HIGHEST: Final = math.ceil(math.log(_LONGEST_S) * _PER_LOG)
#: Buckets with a smaller share of the whole are dropped; and the whole when it weighs so little.
NEGLIGIBLE: Final = 1e-5
#: The weight of what is added is brought back to 1 above this.
_HEAVY: Final = 1e9


class DecayedSketch:
    """Takes durations, one at a time."""

    __slots__ = ("_began_at", "_counts", "_weight")

    def __init__(self) -> None:
        """Nothing added yet; its time begins with the first `read`."""
        self._counts: dict[int, float] = {}
        self._weight = 1.0
        self._began_at: float | None = None

    def add(self, seconds: float) -> None:
        """Count a duration, as of the last call of `read`."""
        if seconds <= _SHORTEST_S:
            index = _LOWEST
        elif seconds >= _LONGEST_S:
            index = _HIGHEST
        else:
            index = math.ceil(math.log(seconds) * _PER_LOG)
        self._counts[index] = self._counts.get(index, 0.0) + self._weight

    def read(self, now: float) -> Buckets:
        """The buckets as of `now`, ascending; what is added from here on is as of `now`.

        Args:
            now: monotonic seconds, not before the last call's.
        """
        if self._began_at is None:
            self._began_at = now
        halves = (now - self._began_at) / HALF_LIFE_S
        # Beyond 1,000 half-lives nothing is left, and 2 to their power is no float any more.
        self._weight = 2.0 ** min(halves, 1_000.0)
        total = sum(self._counts.values())
        if total < NEGLIGIBLE * self._weight:
            self._counts.clear()
        elif self._weight > _HEAVY:
            self._counts = {
                i: count / self._weight
                for i, count in self._counts.items()
                if count > NEGLIGIBLE * total
            }
        weight = self._weight
        if weight > _HEAVY or not self._counts:
            self._began_at, self._weight = now, 1.0
            weight = 1.0
        return tuple(
            (i, float(f"{count / weight:.4g}"))
            for i, count in sorted(self._counts.items())
            if count > NEGLIGIBLE * total
        )


def weight_of(buckets: Buckets) -> float:
    """How many durations the sketch is made of, older ones counting less."""
    return sum(weight for _, weight in buckets)


def merge(sketches: Iterable[Buckets]) -> Buckets:
    """One sketch of everything in these."""
    filled = [buckets for buckets in sketches if buckets]
    if len(filled) == 1:  # the usual case: one router has served
        return filled[0]
    counts: dict[int, float] = {}
    for buckets in filled:
        for index, weight in buckets:
            counts[index] = counts.get(index, 0.0) + weight
    return tuple(sorted(counts.items()))


def quantile(buckets: Buckets, ratio: float) -> float | None:
    """The duration that this share of them does not exceed, in seconds.

    Args:
        buckets: ascending, as `read` and `merge` give them.
        ratio: 0 to 1; 0.5 = the median.

    Returns:
        Off by at most `ACCURACY`; None = the sketch is empty.
    """
    rank, seen = ratio * weight_of(buckets), 0.0
    for index, weight in buckets:
        seen += weight
        if seen >= rank * (1 - 1e-12):
            return 2 * _GAMMA**index / (_GAMMA + 1)
    return None
