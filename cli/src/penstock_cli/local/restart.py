"""When to start a child again that ended by itself [pure]."""

from dataclasses import dataclass
from typing import Final

#: A child that lived shorter than this died quickly: the next start waits longer.
QUICK_DEATH_S: Final = 5.0
#: So many failed starts of a child that never served, and the supervisor gives up.
MAX_FAILED_STARTS: Final = 6
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Deaths:
    """What to remember of a child's deaths; `Deaths()` at first."""

    #: quick deaths in a row
    quick: int = 0
    #: starts that ended before it was ever ready
    failed_starts: int = 0
    #: it was ready once: what it was told to do it can do
    served: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay_s`; `deaths` is to be passed to the next decision."""

    delay_s: float
    deaths: Deaths


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It never got ready; stop everything."""

    failed_starts: int


def decide_restart(deaths: Deaths, lived_s: float, *, was_ready: bool) -> Restart | GiveUp:
    """What to do about a child that ended by itself.

    One that was ready once is started for ever: without it the others still serve, stopped they
    would not.

    Args:
        deaths: from the last decision.
        lived_s: seconds between its start and its end.
        was_ready: whether it had said that it serves.

    Returns:
        `Restart` with a delay that doubles from 0.1 s to 3 s with each quick death in a row, or
        `GiveUp` when it has died six times without ever having been ready.
    """
    served = deaths.served or was_ready
    failed_starts = 0 if served else deaths.failed_starts + 1
    if failed_starts >= MAX_FAILED_STARTS:
        return GiveUp(failed_starts)
    quick = deaths.quick + 1 if lived_s < QUICK_DEATH_S else 0
    delay_s = min(FIRST_DELAY_S * 2 ** max(0, quick - 1), LONGEST_DELAY_S)
    return Restart(delay_s, Deaths(quick, failed_starts, served))
