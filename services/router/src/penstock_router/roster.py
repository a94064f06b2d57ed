"""Lanes as the catalogue says: which workers are driven here, which accept, what stands in the way.

Level-triggered: `refresh` may be called at any time and as often as one likes, and a tick calls it
for every lane.
"""

from collections.abc import Callable
from typing import Final

from penstock_common.clock import Clock
from penstock_common.states import DesiredState
from penstock_router.admission import judge_endpoint
from penstock_router.catalogue import Catalogue, WorkerView
from penstock_router.dispatch import GONE, Dispatcher, DispatchEvents
from penstock_router.lanes import Driven, Lane

#: A slot that stays free for so long while somebody waits is given out without JetStream.
STALLED_S: Final = 2.0


class Roster:
    """Keeps the lanes of a dispatcher as the catalogue has them."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        catalogue: Catalogue,
        *,
        clock: Clock,
        events: DispatchEvents,
        ejected: Callable[[WorkerView], bool],
        reigns: Callable[[Lane, WorkerView], bool],
        on_other: Callable[[Lane, WorkerView], None],
        on_closed: Callable[[str, str], None],
        no_capacity_wait_s: float,
    ) -> None:
        """A roster over these lanes.

        Args:
            dispatcher: has the lanes.
            catalogue: read whenever an endpoint is refreshed.
            clock: for idle times.
            events: told what changed.
            ejected: whether a worker that should take requests did not take connections.
            reigns: whether slots of a worker that names this router may be given out yet.
            on_other: told of every worker that names another driver.
            on_closed: told (endpoint, worker) driven here whose lent slots are to come back.
            no_capacity_wait_s: how long a request waits for what has no place.
        """
        self._dispatcher = dispatcher
        self._catalogue = catalogue
        self._clock = clock
        self._events = events
        self._ejected = ejected
        self._reigns = reigns
        self._on_other = on_other
        self._on_closed = on_closed
        self._no_capacity_wait_s = no_capacity_wait_s
        #: whether what is driven here may be another router's by now
        self.fenced = False

    def refresh(self, endpoint_id: str) -> None:
        """Bring a lane to what the catalogue says."""
        dispatcher = self._dispatcher
        views = tuple(self._catalogue.workers(endpoint_id))
        mine = [v for v in views if v.assignment.driver == dispatcher.router_id]
        if endpoint_id not in dispatcher.lanes and not mine:
            return
        lane = dispatcher.lane(endpoint_id)
        for view in views:
            if view.assignment.driver not in (None, dispatcher.router_id):
                self._on_other(lane, view)
        self._refresh_sole(lane, views)
        n_freed = self._refresh_workers(lane, mine)
        self._refresh_split(lane, mine)
        self._refresh_condition(lane)
        if n_freed:
            self._events.slots_freed(endpoint_id)
        if lane.over and self._catalogue.endpoint(endpoint_id) is None:
            del dispatcher.lanes[endpoint_id]

    def _refresh_sole(self, lane: Lane, views: tuple[WorkerView, ...]) -> None:
        drivers = {
            view.assignment.driver
            for view in views
            if view.assignment.desired is DesiredState.RUNNING
        }
        sole = drivers == {self._dispatcher.router_id}
        if sole != lane.sole:
            lane.sole = sole
            if not sole:
                self._dispatcher.publish_waiting(lane)

    def _refresh_workers(self, lane: Lane, mine: list[WorkerView]) -> int:
        record = self._catalogue.endpoint(lane.endpoint_id)
        now = self._clock.monotonic()
        n_freed, changed = 0, False
        driven: set[str] = set()
        for view in mine:
            worker_id = view.assignment.worker_id
            reigning = self._reigns(lane, view)
            accepting = (
                view.takes_requests
                and reigning
                and not self._dispatcher.stopping
                and not self.fenced
                and not self._ejected(view)
            )
            spec = record.spec if record is not None else view.assignment.spec
            was = (lane.driven.get(worker_id), lane.slots.accepting(worker_id))
            lane.driven[worker_id] = Driven(view.address, view.revision, counted=reigning)
            n_freed += lane.slots.put_worker(
                worker_id, n_slots=spec.workers.max_concurrency, accepting=accepting, now=now
            )
            driven.add(worker_id)
            if was != (lane.driven[worker_id], accepting):
                changed = True
                if was[1] and not accepting:
                    self._on_closed(lane.endpoint_id, worker_id)
        changed = self._drop_others(lane, driven) or changed
        if changed:
            self._events.load_changed(lane.endpoint_id, urgent=False)
        return n_freed

    def _refresh_split(self, lane: Lane, mine: list[WorkerView]) -> None:
        record = self._catalogue.endpoint(lane.endpoint_id)
        if record is None or record.canary is None:
            if lane.slots.split is not None:
                lane.slots.share(None)
            return
        canary = [v.assignment.worker_id for v in mine if record.runs(v.assignment.revision)]
        lane.slots.share(record.canary.percent, canary)
        for worker_id in lane.driven:  # what others keep for several requests is out of the count
            self._on_closed(lane.endpoint_id, worker_id)

    @staticmethod
    def _drop_others(lane: Lane, driven: set[str]) -> bool:
        changed = False
        for worker_id in lane.slots.worker_ids():
            if worker_id not in driven:
                changed = changed or lane.slots.accepting(worker_id)
                lane.slots.remove_worker(worker_id)
        for worker_id in set(lane.driven) - set(lane.slots.worker_ids()):
            del lane.driven[worker_id]
            changed = True
        return changed

    def _refresh_condition(self, lane: Lane) -> None:
        record = self._catalogue.endpoint(lane.endpoint_id)
        if record is None:
            self._dispatcher.evict(lane, GONE)
            return
        condition = lane.condition = judge_endpoint(
            record,
            self._catalogue.status(lane.endpoint_id),
            running=self._catalogue.runs(lane.endpoint_id),
            utc_now=self._clock.utc(),
        )
        refusal = condition.closed or condition.failing
        if refusal is not None:
            self._dispatcher.evict(lane, refusal)
        elif condition.hopeless is not None:
            since = self._clock.monotonic() - self._no_capacity_wait_s
            waited = lane.waiting.waited_since(since)
            if waited:
                self._dispatcher.evict(lane, condition.hopeless, waited)

    def tick(self, now: float) -> None:
        """Refresh every lane, and serve those in which a free slot and a ticket do not meet."""
        for endpoint_id in tuple(self._dispatcher.lanes):
            self.refresh(endpoint_id)
        for endpoint_id, lane in self._dispatcher.lanes.items():
            if not (lane.waiters and lane.slots.free):
                lane.stalled_since = None
            elif lane.stalled_since is None:
                lane.stalled_since = now
            elif now - lane.stalled_since >= STALLED_S:
                self._dispatcher.serve_locally(endpoint_id)
