"""Token buckets: never more than they promise, and never less to whoever keeps to it."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.rate_limits import RateLimits

steps = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=80)


@given(steps, st.floats(0.5, 20), st.integers(1, 10))
def test_in_no_stretch_of_time_more_than_burst_and_rate(
    asked: list[tuple[str, float]], rate: float, burst: int
) -> None:
    limits, now = RateLimits(rate, burst), 0.0
    granted: dict[str, list[float]] = {"a": [], "b": []}
    for caller, pause_s in asked:
        now += pause_s
        if limits.take(caller, now) == 0.0:
            granted[caller].append(now)
    for times in granted.values():
        for first in range(len(times)):
            for last in range(first, len(times)):
                most = burst + (times[last] - times[first]) * rate
                assert last - first + 1 <= most + 1e-6


@given(steps, st.floats(0.5, 20), st.integers(1, 10))
def test_who_waits_as_told_gets_through(
    asked: list[tuple[str, float]], rate: float, burst: int
) -> None:
    limits, now = RateLimits(rate, burst), 0.0
    for caller, pause_s in asked:
        now += pause_s
        wait_s = limits.take(caller, now)
        if wait_s:
            assert wait_s <= 1 / rate + 1e-9
            now += wait_s + 1e-9
            assert limits.take(caller, now) == 0.0


def test_callers_that_have_gone_are_forgotten() -> None:
    limits = RateLimits(rate=10, burst=10)
    for n in range(5_000):
        assert limits.take(f"caller-{n}", n * 0.01) == 0.0
    assert len(limits) < 1_200


def test_one_caller_costs_another_nothing() -> None:
    limits = RateLimits(rate=1, burst=2)
    assert [limits.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert limits.take("b", 0.0) == 0.0
