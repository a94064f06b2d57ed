"""Durations as people write them."""

import re
from typing import Final

from penstock_cli.exits import CliError

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_FORM: Final = re.compile(r"(\d{1,9})([smhdw])")


def seconds_of(text: str, option: str) -> int:
    """The seconds that `30d`, `12h`, `90s` are; units are s, m, h, d and w.

    Args:
        text: what was written.
        option: where, for the error.

    Raises:
        CliError: it is no duration.
    """
    match = _FORM.fullmatch(text.strip().lower())
    if match is None:
        raise CliError(f"{option} '{text}' is no duration; write 30d, 12h, 15m or 90s")
    return int(match[1]) * _UNITS[match[2]]
