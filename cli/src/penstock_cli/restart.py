"""When to start a child again that ended by itself [pure]."""

from dataclasses import dataclass
from typing import Final

#: A child that lived shorter than this died quickly: something is wrong with it, not with its load.
QUICK_DEATH_S: Final = 5.0
#: So many quick deaths in a row, and the supervisor gives up.
MAX_QUICK_DEATHS: Final = 6
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay_s`; `quick_deaths` is to be passed to the next decision."""

    delay_s: float
    quick_deaths: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It died quickly too often; stop everything."""

    quick_deaths: int


def decide_restart(quick_deaths: int, lived_s: float) -> Restart | GiveUp:
    """What to do about a child that ended by itself.

    Args:
        quick_deaths: quick deaths in a row so far, from the last decision (0 at first).
        lived_s: seconds between its start and its end.

    Returns:
        `Restart` with a delay that doubles from 0.1 s to 3 s with each quick death, or `GiveUp`
        after six in a row. One longer life forgets them all.
    """
    if lived_s >= QUICK_DEATH_S:
        return Restart(FIRST_DELAY_S, 0)
    quick_deaths += 1
    if quick_deaths >= MAX_QUICK_DEATHS:
        return GiveUp(quick_deaths)
    return Restart(min(FIRST_DELAY_S * 2 ** (quick_deaths - 1), LONGEST_DELAY_S), quick_deaths)
