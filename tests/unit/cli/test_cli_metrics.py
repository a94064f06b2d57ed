"""Plots of text."""

import hypothesis.strategies as st
from hypothesis import given

from penstock_cli.output.metrics import plot


def test_the_highest_bar_is_full_and_nothing_is_the_lowest() -> None:
    assert plot([0, 1, 2, 4, 8, None, 0.001]) == "▁▂▃▅█ ▂"
    assert plot([0, 0]) == "▁▁"
    assert plot([]) == ""


@given(st.lists(st.floats(0, 1e6) | st.none()))
def test_there_is_one_bar_for_each_value_and_more_is_never_lower(
    values: list[float | None],
) -> None:
    bars = plot(values)
    assert len(bars) == len(values)
    pairs = sorted(
        (value, bar) for value, bar in zip(values, bars, strict=True) if value is not None
    )
    assert [bar for _, bar in pairs] == sorted(bar for _, bar in pairs)
