"""The sketch of durations: errors within bounds, newer ones count more, merging loses nothing."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.sketch import (
    ACCURACY,
    HALF_LIFE_S,
    NEGLIGIBLE,
    DecayedSketch,
    merge,
    quantile,
    weight_of,
)

durations = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300)
ratios = st.floats(0, 1)


def sketch_of(seconds: list[float]) -> DecayedSketch:
    sketch = DecayedSketch()
    for duration in seconds:
        sketch.add(duration)
    return sketch


@given(durations, ratios)
def test_a_quantile_is_off_by_at_most_the_accuracy(seconds: list[float], ratio: float) -> None:
    found = quantile(sketch_of(seconds).read(0), ratio)
    rank = max(1, math.ceil(ratio * len(seconds) * (1 - 1e-12)))
    true = sorted(seconds)[rank - 1]
    assert found == pytest.approx(true, rel=ACCURACY * (1 + 1e-9))


@given(durations, durations, ratios)
def test_merged_sketches_say_what_one_of_all_says(
    one: list[float], other: list[float], ratio: float
) -> None:
    merged = merge([sketch_of(one).read(0), sketch_of(other).read(0)])
    assert merged == sketch_of(one + other).read(0)
    assert weight_of(merged) == len(one) + len(other)


@given(durations, st.lists(st.floats(0, 200), max_size=8))
def test_reading_in_between_changes_nothing_but_the_weight(
    seconds: list[float], reads: list[float]
) -> None:
    sketch, untouched = sketch_of(seconds), sketch_of(seconds)
    now = 0.0
    sketch.read(now)
    for pause_s in reads:
        now += pause_s
        sketch.read(now)
    if len(seconds) * 2 ** (-now / HALF_LIFE_S) < NEGLIGIBLE:
        assert sketch.read(now) == ()
        return
    for (i, weight), (j, whole) in zip(sketch.read(now), untouched.read(0), strict=True):
        assert i == j
        assert weight == pytest.approx(whole * 2 ** (-now / HALF_LIFE_S), rel=1e-3)


@given(st.integers(1, 12))
def test_what_is_older_by_half_lives_counts_less(halves: int) -> None:
    sketch = sketch_of([1.0] * 64)
    sketch.read(0)
    sketch.read(halves * HALF_LIFE_S)
    for _ in range(64):
        sketch.add(10.0)
    (_, old), (_, new) = sketch.read(halves * HALF_LIFE_S)
    assert old / new == pytest.approx(2.0**-halves, rel=1e-3)
    assert quantile(sketch.read(halves * HALF_LIFE_S), 0.95) == pytest.approx(10, rel=ACCURACY)


def test_it_serves_for_ever_in_bounded_space() -> None:
    sketch, now = DecayedSketch(), 0.0
    buckets = sketch.read(now)
    for n in range(20_000):
        now += 3.0
        sketch.add(10.0 ** (n % 13 - 6))
        sketch.add(10.0 ** (n % 17 / 3 - 3))
        buckets = sketch.read(now)
        assert len(buckets) <= 13 + 17
    assert weight_of(buckets) == pytest.approx(2 / (1 - 2 ** (-3 / HALF_LIFE_S)), rel=0.05)
    assert sketch.read(now + 1e9) == ()
    sketch.add(1.0)
    assert quantile(sketch.read(now + 1e9), 0.5) == pytest.approx(1, rel=ACCURACY * (1 + 1e-9))


def test_nothing_added_has_no_quantile_and_extremes_have_the_outermost() -> None:
    assert quantile(DecayedSketch().read(5), 0.5) is None
    assert quantile((), 0.5) is None
    extremes = sketch_of([0.0, -1.0, 1e12]).read(0)
    assert quantile(extremes, 0.1) == pytest.approx(1e-6, rel=ACCURACY)
    assert quantile(extremes, 1) == pytest.approx(1e6, rel=ACCURACY)
