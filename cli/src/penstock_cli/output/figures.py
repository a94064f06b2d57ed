"""Figures as a person reads them: bytes, durations, rates [pure]."""

from typing import Final

_STEPS: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def size(n_bytes: float) -> str:
    """Bytes in the largest unit that leaves a whole number, e.g. `3.1 GB`."""
    for step, unit in _STEPS:
        if n_bytes >= step:
            value = n_bytes / step
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{n_bytes:.0f} B"


def part_of(n_bytes: float, total: float) -> str:
    """Some of so many bytes, both in the unit of the whole, e.g. `0.4 of 3.1 GB`."""
    for step, unit in _STEPS:
        if total >= step:
            return f"{n_bytes / step:.1f} of {total / step:.1f} {unit}"
    return f"{n_bytes:.0f} of {total:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, e.g. `0.31 s`, `4.2 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 1:
        return f"{max(seconds, 0.0):.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def brief(seconds: float) -> str:
    """Seconds for a narrow column, e.g. `8ms`, `310ms`, `4.2s`, `42s`, `3m05s`, `2h10m`."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m"


def rate(per_s: float) -> str:
    """A rate for a narrow column, e.g. `0`, `0.3`, `12`, `1.2k`."""
    if per_s <= 0:
        return "0"
    if per_s < 9.95:
        return f"{per_s:.1f}"
    if per_s < 999.5:
        return f"{per_s:.0f}"
    return f"{per_s / 1000:.1f}k"
