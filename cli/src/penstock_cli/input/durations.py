"""Durations as people write them [pure]."""

import re
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_FORM: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def parse_duration(text: str) -> int:
    """The seconds that `30d`, `12h`, `90s` are; units are s, m, h, d and w.

    Raises:
        ValueError: it is no duration.
    """
    match = _FORM.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"'{text}' is no duration; write 30d, 12h, 15m or 90s")
    return int(match[1]) * _UNITS[match[2]]
