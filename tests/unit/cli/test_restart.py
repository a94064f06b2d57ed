from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.local.restart import (
    LONGEST_DELAY_S,
    MAX_FAILED_STARTS,
    Deaths,
    GiveUp,
    Restart,
    decide_restart,
)


def test_delays_double_until_it_gives_up() -> None:
    delays = []
    deaths = Deaths()
    while isinstance(decision := decide_restart(deaths, 0.01, was_ready=False), Restart):
        delays.append(decision.delay_s)
        deaths = decision.deaths
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert decision == GiveUp(MAX_FAILED_STARTS)


def test_a_long_life_forgets_the_quick_deaths() -> None:
    assert decide_restart(Deaths(quick=4, served=True), 60.0, was_ready=True) == Restart(
        0.1, Deaths(served=True)
    )


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=50))
def test_only_what_never_served_is_given_up(lives: list[tuple[float, bool]]) -> None:
    deaths = Deaths()
    for n, (lived_s, was_ready) in enumerate(lives, start=1):
        decision = decide_restart(deaths, lived_s, was_ready=was_ready)
        served = any(ready for _, ready in lives[:n])
        assert isinstance(decision, GiveUp) == (not served and n >= MAX_FAILED_STARTS)
        if isinstance(decision, GiveUp):
            return
        assert 0 < decision.delay_s <= LONGEST_DELAY_S
        deaths = decision.deaths
