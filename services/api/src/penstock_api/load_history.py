"""The last hour of each endpoint's load, in buckets of ten seconds [pure].

Theory of operation. Routers count from their start, so what happened between two reports of one is
the difference of its counters; counters that went down began anew. Requests under way when a router
is heard of an endpoint first count as arrived then, what was before is not known. Levels (who waits,
who is in flight) are summed over the routers heard of late, and a bucket keeps the highest sum.

A closed bucket is a row of single-precision floats in a ring, found by its number on a grid that
begins with the epoch: so several apis agree on where buckets begin, and a bucket in which nothing was
heard takes no work, it only is not there. An endpoint takes 29 KB, 1,000 of them 29 MB, and one of
which nothing was heard for as long as the ring is nothing. All of it is lost with the process.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from penstock_api.loads import FRESH_S, Times
from penstock_common.messages import QueueReport
from penstock_common.sketch import quantile
from penstock_common.states import ENDED, WorkerState

BUCKET_S: Final = 10
#: Buckets that are kept: an hour.
KEPT: Final = 360
#: States of workers that are counted.
STATES: Final = tuple(state for state in WorkerState if state not in ENDED)
#: Shares of requests whose times are told.
RATIOS: Final = (0.5, 0.9, 0.99)

_N_SUMS: Final = 4
_N_LEVELS: Final = 3
_N_COLUMNS: Final = _N_SUMS + _N_LEVELS + len(STATES) + 2 * len(RATIOS)

#: endpoint → how many of its workers are in each of `STATES`
WorkerCounts = Mapping[str, Mapping[WorkerState, int]]


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in some buckets that follow each other."""

    #: seconds since the epoch at which it begins
    at: int
    requests: int = 0
    completed: int = 0
    errors: int = 0
    refused: int = 0
    #: most at once
    waiting: int = 0
    in_flight: int = 0
    oldest_wait_s: float = 0.0
    #: at its end, in the order of `STATES`
    workers: tuple[int, ...] = (0,) * len(STATES)
    #: of recent requests at its end, in the order of `RATIOS`; None = none was served of late
    service_s: tuple[float, ...] | None = None
    #: likewise, to the first byte of their answers' bodies
    first_byte_s: tuple[float, ...] | None = None


class Ring:
    """Rows by the number of their bucket, the last `KEPT` of them."""

    __slots__ = ("_numbers", "_values")

    def __init__(self) -> None:
        self._numbers = array("q", [-1]) * KEPT
        self._values = array("f", [0.0]) * (KEPT * _N_COLUMNS)

    def put(self, number: int, row: tuple[float, ...]) -> None:
        """Keep the row of this bucket, and none of `KEPT` buckets before any more."""
        place = number % KEPT
        self._numbers[place] = number
        self._values[place * _N_COLUMNS : (place + 1) * _N_COLUMNS] = array("f", row)

    def rows(self, first: int, last: int) -> Iterator[tuple[float, ...]]:
        """The rows of these buckets that there are, ascending; both ends included."""
        for number in range(max(first, last - KEPT + 1), last + 1):
            place = number % KEPT
            if self._numbers[place] == number:
                yield tuple(self._values[place * _N_COLUMNS : (place + 1) * _N_COLUMNS])


@dataclass(slots=True)
class _Heard:
    """What a router said last of an endpoint."""

    at: float
    #: its counters: arrivals, completions, errors, refusals
    totals: tuple[int, int, int, int]
    #: waiting, in flight, oldest wait
    levels: tuple[float, float, float]


@dataclass(slots=True)
class _Endpoint:
    ring: Ring = field(default_factory=Ring)
    routers: dict[str, _Heard] = field(default_factory=dict)
    heard_at: float = 0.0
    #: of the bucket that is not closed
    sums: list[int] = field(default_factory=lambda: [0] * _N_SUMS)
    levels: list[float] = field(default_factory=lambda: [0.0] * _N_LEVELS)


class LoadHistory:
    """The rings of all endpoints; `at` is in seconds since the epoch throughout."""

    def __init__(self, began_at: float) -> None:
        """Nothing heard yet; what was before `began_at` is not known."""
        self._next = math.ceil(began_at / BUCKET_S)
        self._first = self._next
        self._endpoints: dict[str, _Endpoint] = {}

    def __len__(self) -> int:
        """How many endpoints it keeps anything of."""
        return len(self._endpoints)

    def note(self, report: QueueReport, at: float) -> None:
        """Take a report that arrived now."""
        endpoint = self._endpoints.setdefault(report.endpoint_id, _Endpoint())
        endpoint.heard_at = at
        before = endpoint.routers.get(report.router_id)
        totals = (
            report.arrivals_total,
            report.completions_total,
            report.errors_total,
            report.refused_total,
        )
        under_way = report.waiting + report.in_flight
        known = before.totals if before else (max(0, totals[0] - under_way), *totals[1:])
        for place, (old, new) in enumerate(zip(known, totals, strict=True)):
            endpoint.sums[place] += new - old if new >= old else new
        levels = (report.waiting, report.in_flight, report.oldest_wait_s)
        endpoint.routers[report.router_id] = _Heard(at, totals, levels)
        fresh = [heard.levels for heard in endpoint.routers.values() if at - heard.at <= FRESH_S]
        waiting, in_flight, oldest_s = zip(*fresh, strict=True)
        sums = (sum(waiting), sum(in_flight), max(oldest_s))
        endpoint.levels = [max(a, b) for a, b in zip(endpoint.levels, sums, strict=True)]

    def due_at(self) -> float:
        """When the next bucket is over."""
        return (self._next + 1) * BUCKET_S

    def close(self, at: float, served: Callable[[str], Times], workers: WorkerCounts) -> None:
        """Close the bucket that is over, if one is; what was heard since the last one goes into it.

        Args:
            at: now.
            served: endpoint → what its requests took of late, over all routers.
            workers: the workers that there are.
        """
        number = math.floor(at / BUCKET_S) - 1
        if number < self._next:
            return
        self._next = number + 1
        began_at = number * BUCKET_S
        for endpoint_id in workers:
            self._endpoints.setdefault(endpoint_id, _Endpoint()).heard_at = at
        for endpoint_id, endpoint in list(self._endpoints.items()):
            if endpoint.heard_at >= began_at:
                times = served(endpoint_id)
                quantiles = (quantile(each, ratio) for each in times for ratio in RATIOS)
                counts = workers.get(endpoint_id, {})
                row = (
                    *endpoint.sums,
                    *endpoint.levels,
                    *(counts.get(state, 0) for state in STATES),
                    *(math.nan if time_s is None else time_s for time_s in quantiles),
                )
                endpoint.ring.put(number, row)
                endpoint.sums, endpoint.levels = [0] * _N_SUMS, [0.0] * _N_LEVELS
            elif at - endpoint.heard_at > KEPT * BUCKET_S:
                del self._endpoints[endpoint_id]
            silent = [r for r, h in endpoint.routers.items() if at - h.at > KEPT * BUCKET_S]
            for router_id in silent:
                del endpoint.routers[router_id]

    def steps(self, endpoint_id: str, *, window_s: int, step_s: int) -> list[Step]:
        """The last closed steps of an endpoint that lie within the window, ascending.

        Args:
            endpoint_id: any; one that nothing was heard of has steps in which nothing was.
            window_s: up to `KEPT` buckets.
            step_s: a whole number of buckets.
        """
        endpoint = self._endpoints.get(endpoint_id)
        n = step_s // BUCKET_S
        end = self._next - self._next % n
        first = max(self._first, end - window_s // BUCKET_S)
        first += -first % n
        return [
            _step(start, list(endpoint.ring.rows(start, start + n - 1)) if endpoint else [])
            for start in range(first, end, n)
        ]


def _step(start: int, rows: list[tuple[float, ...]]) -> Step:
    """One step over the rows of its buckets."""
    at = start * BUCKET_S
    if not rows:
        return Step(at)
    columns = list(zip(*rows, strict=True))
    requests, completed, errors, refused = (round(sum(c)) for c in columns[:_N_SUMS])
    waiting, in_flight, oldest_s = map(max, columns[_N_SUMS : _N_SUMS + _N_LEVELS])
    workers = columns[_N_SUMS + _N_LEVELS : -2 * len(RATIOS)]
    return Step(
        at,
        requests=requests,
        completed=completed,
        errors=errors,
        refused=refused,
        waiting=round(waiting),
        in_flight=round(in_flight),
        oldest_wait_s=oldest_s,
        workers=tuple(round(column[-1]) for column in workers),
        service_s=_last(rows, -2 * len(RATIOS)),
        first_byte_s=_last(rows, -len(RATIOS)),
    )


def _last(rows: list[tuple[float, ...]], begin: int) -> tuple[float, ...] | None:
    """The quantiles that begin in this column, of the last row that has them."""
    known = (row[begin:][: len(RATIOS)] for row in reversed(rows))
    return next((times for times in known if not math.isnan(times[-1])), None)
