"""Traces: when requests arrive and how long each is at its worker.

A trace is read from CSV (`arrival_s,service_s`, one request a line) or made by a generator, which
is seeded: the same arguments give the same trace. Service times of generated requests are drawn from
a gamma distribution of shape 4 (standard deviation half the mean): neither constant nor wild.
"""

import csv
import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["poisson", "diurnal", "burst", "on-off"]
KINDS: Final[tuple[Kind, ...]] = ("poisson", "diurnal", "burst", "on-off")

#: Shape of the distribution of service times.
_SHAPE: Final = 4.0
#: Figures of the generators, as shares of the duration and of the mean rate.
_BURSTS: Final = 4
_BURST_SHARE: Final = 0.04
_BURST_HEIGHT: Final = 10.0
_CYCLES: Final = 4
_ON_SHARE: Final = 0.35


class TraceError(Exception):
    """A trace cannot be read."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival."""

    name: str
    #: seconds since the beginning, ascending
    arrivals_s: "array[float]"
    #: seconds at the worker
    services_s: "array[float]"

    def __len__(self) -> int:
        return len(self.arrivals_s)

    @property
    def duration_s(self) -> float:
        """When the last request arrives."""
        return self.arrivals_s[-1] if self.arrivals_s else 0.0


def read_csv(lines: Iterable[str], name: str) -> Trace:
    """The trace in these lines; a first line that holds no numbers is a heading.

    Raises:
        TraceError: a line holds something else than two numbers that make sense.
    """
    rows: list[tuple[float, float]] = []
    for number, row in enumerate(csv.reader(lines), 1):
        if not row:
            continue
        try:
            arrival_s, service_s = float(row[0]), float(row[1])
        except (ValueError, IndexError):
            if number == 1:
                continue
            raise TraceError(
                f"line {number} of {name} is not like 12.5,0.8 (arrival and service in seconds)"
            ) from None
        if not (0 <= arrival_s < math.inf and 0 <= service_s < math.inf):
            raise TraceError(f"line {number} of {name} holds a negative or endless time")
        rows.append((arrival_s, service_s))
    if not rows:
        raise TraceError(f"{name} holds no request")
    rows.sort()
    return Trace(name, array("d", (a for a, _ in rows)), array("d", (s for _, s in rows)))


def generate(
    kind: Kind, *, duration_s: float, per_s: float, service_s: float, seed: int = 1
) -> Trace:
    """A trace of this kind with `per_s` arrivals a second on the whole.

    - `poisson`: independent callers at a constant rate.
    - `diurnal`: one day's wave over the duration, from a fifth to nine fifths of the mean.
    - `burst`: a low rate, and four times ten times as much for a hundredth of the duration.
    - `on-off`: four times nothing, and then everything.
    """
    chance = random.Random(seed)  # noqa: S311  # a simulation, no secret
    rate_at, most = _shape(kind, duration_s, per_s)
    arrivals = array("d", _thinned(rate_at, most, duration_s, chance))
    scale = service_s / _SHAPE
    services = array("d", (chance.gammavariate(_SHAPE, scale) for _ in arrivals))
    return Trace(kind, arrivals, services)


def _shape(kind: Kind, duration_s: float, per_s: float) -> tuple[Callable[[float], float], float]:
    """The rate at each instant, and the highest."""
    if kind == "poisson":
        return (lambda _: per_s), per_s
    if kind == "diurnal":
        return (lambda t: per_s * (1 - 0.8 * math.cos(2 * math.pi * t / duration_s))), 1.8 * per_s
    if kind == "burst":
        # low + share of the time at `_BURST_HEIGHT` times low = the mean
        low = per_s / (1 + _BURST_SHARE * (_BURST_HEIGHT - 1))
        period_s = duration_s / _BURSTS
        length_s = duration_s * _BURST_SHARE / _BURSTS

        def with_bursts(t: float) -> float:
            return low * (_BURST_HEIGHT if 0 <= t % period_s - period_s / 2 < length_s else 1.0)

        return with_bursts, low * _BURST_HEIGHT
    period_s = duration_s / _CYCLES
    high = per_s / _ON_SHARE
    return (lambda t: high if t % period_s >= period_s * (1 - _ON_SHARE) else 0.0), high


def _thinned(
    rate_at: Callable[[float], float], most: float, duration_s: float, chance: random.Random
) -> Iterator[float]:
    """Arrivals of a Poisson process whose rate varies (thinning: Lewis and Shedler, 1979)."""
    t = 0.0
    while True:
        t += chance.expovariate(most)
        if t >= duration_s:
            return
        if chance.random() * most < rate_at(t):
            yield t
