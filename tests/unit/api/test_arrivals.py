"""The rate of arrivals from counters that are lost, late, or begin anew."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.arrivals import FORGET_S, WINDOW_S, Arrivals


def test_what_was_there_before_the_first_report_counts_as_nothing() -> None:
    arrivals = Arrivals()
    arrivals.note("ep-1", "rt-1", 9_000, now=0)
    assert arrivals.per_second("ep-1", now=0) == 0
    arrivals.note("ep-1", "rt-1", 9_020, now=1)
    assert arrivals.per_second("ep-1", now=1) == 20 / WINDOW_S
    assert arrivals.per_second("ep-2", now=1) == 0


def test_a_report_after_a_long_silence_tells_all_that_grew() -> None:
    arrivals = Arrivals()
    arrivals.note("ep-1", "rt-1", 10, now=0)
    arrivals.forget_stale(now=FORGET_S)
    arrivals.note("ep-1", "rt-1", 15, now=FORGET_S)
    assert arrivals.per_second("ep-1", now=FORGET_S) == 5 / WINDOW_S


def test_a_router_that_started_anew_begins_to_count_at_nothing() -> None:
    arrivals = Arrivals()
    arrivals.note("ep-1", "rt-1", 1_000, now=0)
    arrivals.note("ep-1", "rt-1", 30, now=1)
    assert arrivals.per_second("ep-1", now=1) == 30 / WINDOW_S


def test_what_is_long_gone_takes_no_room() -> None:
    arrivals = Arrivals()
    for n in range(100):
        arrivals.note(f"ep-{n}", "rt-1", 0, now=0)
        arrivals.note(f"ep-{n}", "rt-1", 1, now=0)
    arrivals.forget_stale(now=FORGET_S + 1)
    assert not arrivals._counters
    assert not arrivals._grown


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), min_size=1, max_size=60))
def test_the_rate_is_what_came_in_the_window(steps: list[tuple[float, int]]) -> None:
    arrivals, now, total = Arrivals(), 0.0, 0
    arrivals.note("ep-1", "rt-1", 0, now)
    came: list[tuple[float, int]] = []
    for wait_s, more in steps:
        now, total = now + wait_s, total + more
        arrivals.note("ep-1", "rt-1", total, now)
        came.append((now, more))
        expected = sum(n for at, n in came if now - at <= WINDOW_S) / WINDOW_S
        assert arrivals.per_second("ep-1", now) == expected
