"""Instants as people write them: so long ago, a date, or RFC 3339 [pure]."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_instant(text: str, now: datetime) -> datetime:
    """The instant that this says.

    Args:
        text: how long before `now` (`90s`, `10m`, `2h`, `3d`), a date (its midnight, UTC), or an
            RFC 3339 instant.
        now: aware.

    Raises:
        ValueError: it says none; the message says what would.
    """
    if match := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is not None and instant.tzinfo is not None:
        return instant
    if instant is not None and len(text) == len("2030-01-31"):
        return instant.replace(tzinfo=UTC)
    raise ValueError(
        f"'{text}' is no time: write how long ago (90s, 10m, 2h, 3d), a date (2030-01-31), "
        "or an instant with its zone (2030-01-31T12:00:00Z)"
    )
