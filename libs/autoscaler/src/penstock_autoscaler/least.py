"""The workers that an endpoint keeps whatever its load: `workers.min`, raised by a schedule."""

from datetime import datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

from penstock_common.specs import DAYS, EndpointSpec, ScheduleWindow

_zone = lru_cache(maxsize=256)(ZoneInfo)


def least_workers(spec: EndpointSpec, utc: datetime) -> int:
    """Workers to keep at this instant: `min`, or the most that an open window asks for."""
    return max(
        (spec.workers.min, *(w.min for w in spec.scaling.schedule if is_open(w, utc))),
    )


def is_open(window: ScheduleWindow, utc: datetime) -> bool:
    """Whether the clock on the wall of the window's time zone stands within it.

    A window that ends before it starts runs past midnight and belongs to the day of its start.
    """
    local = utc.astimezone(_zone(window.timezone))
    clock, today = local.time(), local.weekday()
    start, end = time.fromisoformat(window.start), _end(window.end)
    if end is None or start < end:
        return _on(window, today) and start <= clock and (end is None or clock < end)
    return (_on(window, today) and clock >= start) or (
        _on(window, (today - 1) % len(DAYS)) and clock < end
    )


def _on(window: ScheduleWindow, weekday: int) -> bool:
    return DAYS[weekday] in window.days


def _end(text: str) -> time | None:
    """None = midnight at the end of the day."""
    return None if text == "24:00" else time.fromisoformat(text)
