from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.restart import (
    LONGEST_DELAY_S,
    MAX_QUICK_DEATHS,
    QUICK_DEATH_S,
    GiveUp,
    Restart,
    decide_restart,
)


def test_delays_double_until_it_gives_up() -> None:
    delays = []
    quick_deaths = 0
    while isinstance(decision := decide_restart(quick_deaths, 0.01), Restart):
        delays.append(decision.delay_s)
        quick_deaths = decision.quick_deaths
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert decision == GiveUp(MAX_QUICK_DEATHS)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_only_a_row_of_quick_deaths_ends_in_giving_up(lives: list[float]) -> None:
    quick_deaths = 0
    row = 0
    for lived_s in lives:
        row = 0 if lived_s >= QUICK_DEATH_S else row + 1
        decision = decide_restart(quick_deaths, lived_s)
        assert isinstance(decision, GiveUp) == (row >= MAX_QUICK_DEATHS)
        if isinstance(decision, GiveUp):
            return
        assert 0 < decision.delay_s <= LONGEST_DELAY_S
        quick_deaths = decision.quick_deaths
