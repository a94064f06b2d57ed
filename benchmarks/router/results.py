"""All figures of a run, and the few that are made from others."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.router.measures import HANDOFF_MS, Figure, queue_case, spread

#: What the others are compared with.
REFERENCE: Final = "haproxy"
OPEN_LOOP: Final = "open loop"
#: Measures whose rounds are added up; of `most in flight` the highest counts; else the median.
_SUMMED: Final = frozenset({"errors", "samples"})
_HIGHEST: Final = "most in flight"


@dataclass(slots=True)
class Results:
    """Figures of every round, in the order of measuring."""

    figures: list[Figure] = field(default_factory=list)
    #: what could not be measured, and why
    failures: list[str] = field(default_factory=list)
    #: (peer, case) → times in ms, of all rounds together
    times_ms: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    #: requests per second of the open loop; 0 = it was not run
    open_rate_per_s: float = 0.0

    def add(self, figures: Iterable[Figure]) -> None:
        """Keep figures of one step."""
        self.figures += figures

    def add_times(self, peer: str, case: str, times_ms: Iterable[float]) -> None:
        """Keep single times, which percentiles are made of at the end."""
        self.times_ms.setdefault((peer, case), []).extend(times_ms)

    def value(self, peer: str, case: str, measure: str) -> float | None:
        """The figure over all rounds; None when there is none."""
        values = [
            f.value
            for f in (*self.figures, *self._from_times())
            if (f.peer, f.case, f.measure) == (peer, case, measure)
        ]
        if not values:
            return None
        if measure in _SUMMED:
            return sum(values)
        return max(values) if measure == _HIGHEST else statistics.median(values)

    def ratio(self, peer: str, case: str, measure: str) -> float | None:
        """The figure over that of HAProxy."""
        own, other = self.value(peer, case, measure), self.value(REFERENCE, case, measure)
        return own / other if own is not None and other else None

    def added(self, peer: str, measure: str) -> float | None:
        """A time of the open loop, less the same without any proxy."""
        own, direct = (self.value(name, OPEN_LOOP, measure) for name in (peer, "direct"))
        return own - direct if own is not None and direct is not None else None

    def cases(self, beginning: str) -> list[str]:
        """The cases whose names begin so, each once."""
        names = [figure.case for figure in self.figures] + [case for _, case in self.times_ms]
        return list(dict.fromkeys(name for name in names if name.startswith(beginning)))

    def slowest_saturation_per_s(self, peers: Iterable[str]) -> float | None:
        """The lowest, over these peers, of the most requests per second that each has reached."""
        best: dict[str, float] = {}
        for figure in self.figures:
            warm = figure.case.startswith("closed loop") and figure.measure == "requests/s"
            if warm and figure.peer in peers:
                best[figure.peer] = max(best.get(figure.peer, 0.0), figure.value)
        return min(best.values(), default=None)

    def summary(self) -> list[Figure]:
        """Each figure once, over all rounds."""
        keys = dict.fromkeys(
            (f.peer, f.case, f.measure) for f in (*self.figures, *self._from_times())
        )
        found = ((key, self.value(*key)) for key in keys)
        return [Figure(*key, value) for key, value in found if value is not None]

    def _from_times(self) -> list[Figure]:
        return [
            figure
            for (peer, case), times_ms in self.times_ms.items()
            for figure in spread(peer, case, times_ms)
        ]


@dataclass(frozen=True, slots=True)
class Goal:
    """One number to reach."""

    what: str
    limit: float
    measured: float | None

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.measured is None:
            return "not measured"
        return "met" if self.measured <= self.limit else "missed"


def goals(results: Results) -> list[Goal]:
    """The router's numbers to reach, with what this run found."""
    found: list[Goal] = []
    for case in results.cases("closed loop"):
        cpu = (case, "CPU µs/request")
        found.append(Goal(f"{case}: CPU, haproxy = 1", 1.6, results.ratio("penstock-1", *cpu)))
        own = results.value("penstock-1", *cpu)
        for peer in ("envoy", "smg"):
            other = results.value(peer, *cpu)
            found.append(Goal(f"{case}: CPU, {peer} = 1", 1.0, _over(own, other)))
        shared = results.value("penstock-2-shared", *cpu)
        found.append(
            Goal(
                f"{case}: CPU, 2 processes before one worker, 1 process = 1",
                1.25,
                _over(shared, own),
            )
        )
    for case in results.cases("events"):
        ratio = results.ratio("penstock-1", case, "CPU µs/event")
        found.append(Goal(f"{case}: CPU, haproxy = 1", 1.6, ratio))
    for measure, limit in (("p50 ms", 0.3), ("p99 ms", 1.5)):
        found.append(Goal(f"latency added, {measure}", limit, results.added("penstock-1", measure)))
    case = handoff_case(queue_case(HANDOFF_MS))
    for measure, limit in (("p50 ms", 0.5), ("p99 ms", 2.0)):
        for peer in ("penstock-1", "penstock-2"):
            value = results.value(peer, case, measure)
            found.append(Goal(f"slot freed → next request, {peer}, {measure}", limit, value))
    return found


def handoff_case(case: str) -> str:
    """Name under which a queue case's hand-off times stand."""
    return f"hand-off, {case}"


def _over(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None
