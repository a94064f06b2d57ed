"""Penstock's own autoscaler in the simulation: the functions that the scheduler calls."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from typing_extensions import override

from penstock_autoscaler.decide import ScaleMemory, decide_workers
from penstock_autoscaler.idle import pick_idle
from penstock_autoscaler.least import least_workers
from penstock_autoscaler.load import Load, Starting
from penstock_autoscaler.starts import StartTimes
from penstock_cli.simulation.view import Orders, Scaler, View
from penstock_common.states import Phase

#: A trace begins at midnight of a Monday, for schedules.
BEGINNING: Final = datetime(2030, 7, 1, tzinfo=UTC)
_ROUTER: Final = "simulated"


class Penstock(Scaler):
    """`libs/autoscaler`, asked as often as the scheduler asks it."""

    name = "penstock"
    source = "libs/autoscaler"
    #: the scheduler's tick, and a router's reports while requests wait
    period_s = 0.5
    waiting_period_s = 0.25

    def __init__(self, *, known_start_s: float | None = None) -> None:
        """A fresh memory; `known_start_s` = starts seen before the trace took so long."""
        starts = StartTimes()
        if known_start_s is not None:
            starts = starts.learn({Phase.RECEIVED: known_start_s})
        self._memory = ScaleMemory(starts=starts)

    @override
    def decide(self, view: View) -> Orders:
        """As `rollout.py` of the scheduler does, with room for every worker."""
        spec = view.spec
        n_workers = len(view.workers)
        load = Load(
            waiting=view.waiting,
            oldest_wait_s=view.oldest_wait_s,
            in_flight=view.in_flight,
            arrivals={_ROUTER: view.arrivals},
            service_time_s=view.service_time_s,
            running=view.running,
            free_slots=max(0, view.running * spec.workers.max_concurrency - view.in_flight),
            starting=tuple(Starting(view.now - w.started_at) for w in view.workers if not w.ready)
            if view.running < n_workers
            else (),
        )
        least = spec.workers.min
        if spec.scaling.schedule:
            least = least_workers(spec, BEGINNING + timedelta(seconds=view.now))
        decision, self._memory = decide_workers(spec, load, self._memory, view.now, least=least)
        if decision.desired > n_workers:
            return Orders(start=decision.desired - n_workers)
        kept = n_workers if decision.kept is None else decision.kept
        if view.waiting or n_workers <= min(decision.desired, kept):
            return Orders()
        idle = {w.number: w for w in view.workers if w.ready and not w.in_flight}
        idle_s = [(str(number), view.now - w.idle_since) for number, w in idle.items()]
        going = pick_idle(idle_s, n_workers, decision, spec.workers.idle_timeout_s)
        return Orders(stop=tuple(idle[int(name)] for name in going))

    @override
    def note_start(self, view: View, took_s: float) -> None:
        """Learn as `sweep.py` of the scheduler does."""
        learnt = self._memory.starts.learn({Phase.RECEIVED: took_s})
        self._memory = replace(self._memory, starts=learnt)
