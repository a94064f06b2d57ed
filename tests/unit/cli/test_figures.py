"""Figures as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.output.figures import brief, duration, part_of, rate, size


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (3_100_000_000, "3.1 GB"),
     (412_000_000, "412 MB"), (2 * 10**13, "20.0 TB")],
)  # fmt: skip
def test_sizes(n_bytes: int, told: str) -> None:
    assert size(n_bytes) == told


def test_a_part_is_in_the_unit_of_the_whole() -> None:
    assert part_of(40_000_000, 3_100_000_000) == "0.0 of 3.1 GB"
    assert part_of(0, 0) == "0 of 0 B"
    assert part_of(5, 900) == "5 of 900 B"


@pytest.mark.parametrize(
    ("seconds", "told", "short"),
    [
        (-1, "0.00 s", "0ms"),
        (0.008, "0.01 s", "8ms"),
        (0.9999, "1.00 s", "1.0s"),
        (4.24, "4.2 s", "4.2s"),
        (42, "42 s", "42s"),
        (59.7, "1 min 00 s", "1m00s"),
        (185, "3 min 05 s", "3m05s"),
        (7_800, "2 h 10 min", "2h10m"),
    ],
)
def test_durations(seconds: float, told: str, short: str) -> None:
    assert (duration(seconds), brief(seconds)) == (told, short)


@pytest.mark.parametrize(
    ("per_s", "told"), [(0, "0"), (0.25, "0.2"), (9.96, "10"), (999.6, "1.0k"), (12_345, "12.3k")]
)
def test_rates(per_s: float, told: str) -> None:
    assert rate(per_s) == told


@given(st.floats(0, 1e6))
def test_brief_figures_fit_a_column(value: float) -> None:
    assert len(brief(value)) <= 7
    assert len(rate(value)) <= 7
