"""Durations on the command line."""

import pytest

from penstock_cli.input.durations import parse_duration


def test_a_duration_has_a_number_and_a_unit() -> None:
    assert [parse_duration(text) for text in ("90s", "15m", "12h", "30d", "2w", " 1H ")] == [
        *(90, 900, 43_200, 2_592_000, 1_209_600, 3_600)
    ]


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 d", "1h30m", "٣d"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="30d, 12h"):
        parse_duration(text)
