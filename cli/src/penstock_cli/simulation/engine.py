"""An endpoint in virtual time: a queue, workers with slots, and a scaler that is asked.

Requests wait in order of arrival and go to the least busy worker, among equals to the one picked
longest ago (the router's `spread`). A worker is paid for from the order to start it until it has
ended. `queue.max_waiting` and `queue.max_wait_s` hold as in the router.

The loop takes the next of four things: an arrival, an end, a worker that becomes ready, a turn of
the scaler. A million requests take some ten seconds, so it is one function with local names.
"""

import heapq
import math
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from penstock_cli.simulation.traces import Trace
from penstock_cli.simulation.view import Orders, Scaler, SimWorker, View
from penstock_common.specs import EndpointSpec

#: Weight of the newest service time in its decayed mean, as in the router.
_NEWEST: Final = 0.1
#: After the last request has ended, the endpoint is watched until it has no surplus, or so long.
_AFTERWARDS_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What the simulated machines are like."""

    #: seconds from the order to start a worker until it takes requests
    cold_start_s: float = 20.0
    #: price of one GPU for an hour, in whatever currency
    gpu_price_per_hour: float = 2.0


@dataclass(slots=True)
class Run:
    """What came of one trace under one scaler."""

    name: str
    trace: Trace
    #: seconds waited, of those that got a worker
    waits_s: "array[float]" = field(default_factory=lambda: array("d"))
    #: when each of those arrived
    served_s: "array[float]" = field(default_factory=lambda: array("d"))
    #: refused because the queue was full, or gone after `max_wait_s`
    refused: int = 0
    timed_out: int = 0
    starts: int = 0
    #: (when, workers paid for), at each change
    workers: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    ended_at: float = 0.0
    worker_seconds: float = 0.0


class _Fleet:
    """Workers, and what is counted of them."""

    def __init__(self, view: View, run: Run, figures: Figures) -> None:
        self.view = view
        self.run = run
        self.figures = figures
        #: (ready at, number, worker)
        self.starting: list[tuple[float, int, SimWorker]] = []
        #: (in flight, picked, number, worker): candidates, some of them out of date
        self.free: list[tuple[int, int, int, SimWorker]] = []
        self.alive = 0

    def carry_out(self, orders: Orders) -> None:
        view, now = self.view, self.view.now
        for _ in range(orders.start):
            worker = SimWorker(self.run.starts, now, now + self.figures.cold_start_s)
            self.run.starts += 1
            view.workers.append(worker)
            heapq.heappush(self.starting, (worker.ready_at, worker.number, worker))
            self._count(1)
        for worker in orders.stop:
            worker.draining = True
            view.workers.remove(worker)
            view.running -= worker.ready
            if not worker.in_flight:
                self.end(worker)

    def end(self, worker: SimWorker) -> None:
        self.run.worker_seconds += self.view.now - worker.started_at
        self._count(-1)

    def offer(self, worker: SimWorker) -> None:
        entry = (worker.in_flight, worker.picked, worker.number, worker)
        heapq.heappush(self.free, entry)

    def _count(self, change: int) -> None:
        self.alive += change
        steps = self.run.workers
        if steps[-1][0] == self.view.now:
            steps[-1] = (self.view.now, self.alive)
        else:
            steps.append((self.view.now, self.alive))


def simulate(trace: Trace, spec: EndpointSpec, scaler: Scaler, figures: Figures) -> Run:
    """Replay a trace.

    Args:
        trace: requests in order.
        spec: the endpoint; what it says of images and GPU products does not matter here.
        scaler: decides; a fresh one.
        figures: of the machines.
    """
    view = View(spec)
    run = Run(scaler.name, trace)
    fleet = _Fleet(view, run, figures)
    _replay(trace, spec, scaler, fleet)
    for worker in view.workers:
        fleet.end(worker)
    run.ended_at = view.now
    return run


def _replay(trace: Trace, spec: EndpointSpec, scaler: Scaler, fleet: _Fleet) -> None:  # noqa: C901  # one loop on purpose: a call per event would double its time
    view, run = fleet.view, fleet.run
    arrivals, services = trace.arrivals_s, trace.services_s
    waits, served = run.waits_s, run.served_s
    slots, max_waiting = spec.workers.max_concurrency, spec.queue.max_waiting
    max_wait_s = spec.queue.max_wait_s
    ends: list[tuple[float, int, SimWorker, float]] = []
    queue: deque[int] = deque()
    free, starting = fleet.free, fleet.starting
    n, i, picks, turn_at, last_turn = len(trace), 0, 0, 0.0, -math.inf
    push, pop = heapq.heappush, heapq.heappop
    quiet_since = 0.0
    while True:
        at = arrivals[i] if i < n else math.inf
        now = min(at, ends[0][0] if ends else math.inf, starting[0][0] if starting else math.inf)
        if now > turn_at:
            now = turn_at
        view.load_integral += (len(queue) + view.in_flight) * (now - view.now)
        view.now = now
        asked = now >= turn_at
        if at <= now and i < n:
            view.arrivals += 1
            if len(queue) >= max_waiting and not _has_free(free, slots):
                run.refused += 1
            else:
                queue.append(i)
            i += 1
        elif ends and ends[0][0] <= now:
            _, _, worker, service_s = pop(ends)
            worker.in_flight -= 1
            view.in_flight -= 1
            mean_s = view.service_time_s
            view.service_time_s = (
                service_s if mean_s is None else mean_s + _NEWEST * (service_s - mean_s)
            )
            if not worker.in_flight:
                worker.idle_since = now
                if worker.draining:
                    fleet.end(worker)
            if not worker.draining:
                push(free, (worker.in_flight, worker.picked, worker.number, worker))
        elif starting and starting[0][0] <= now:
            _, _, worker = pop(starting)
            if not worker.draining:
                worker.ready, worker.idle_since = True, now
                view.running += 1
                fleet.offer(worker)
                scaler.note_start(view, now - worker.started_at)
        while queue:
            if now - arrivals[queue[0]] > max_wait_s:
                queue.popleft()
                run.timed_out += 1
                continue
            if not _has_free(free, slots):
                break
            _, _, _, worker = pop(free)
            request = queue.popleft()
            picks += 1
            worker.picked = picks
            worker.in_flight += 1
            view.in_flight += 1
            waits.append(now - arrivals[request])
            served.append(arrivals[request])
            push(ends, (now + services[request], picks, worker, services[request]))
            if worker.in_flight < slots:
                push(free, (worker.in_flight, picks, worker.number, worker))
        if queue and not asked:
            # The first that waits is told at once, more of them at most so often.
            begins = view.waiting == 0
            view.waiting = len(queue)
            due = last_turn + (0.0 if begins else scaler.waiting_period_s)
            asked = begins or now >= due
            turn_at = min(turn_at, due) if due > now else turn_at
        view.waiting = len(queue)
        if asked:
            view.oldest_wait_s = now - arrivals[queue[0]] if queue else 0.0
            fleet.carry_out(scaler.decide(view))
            last_turn = now
            turn_at = now + scaler.period_s
            if i >= n and not queue and not ends:
                if len(view.workers) <= spec.workers.min or now - quiet_since > _AFTERWARDS_S:
                    return
            else:
                quiet_since = now
            if not view.workers and not queue and i < n:
                turn_at = max(turn_at, arrivals[i])  # nothing to decide until somebody comes


def _has_free(free: list[tuple[int, int, int, SimWorker]], slots: int) -> bool:
    """Whether the first candidate is a free slot; drops candidates that are out of date."""
    while free:
        in_flight, picked, _, worker = free[0]
        if (
            worker.in_flight == in_flight
            and worker.picked == picked
            and in_flight < slots
            and not worker.draining
        ):
            return True
        heapq.heappop(free)
    return False
