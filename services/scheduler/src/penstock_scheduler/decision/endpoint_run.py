"""One endpoint in the making of one plan: sweep, roll out, finish drains, tell (`reconcile.py`)."""

from dataclasses import replace
from typing import Final

from penstock_autoscaler.least import least_workers
from penstock_common.messages import EndpointRecord, EndpointStatus
from penstock_common.states import DesiredState, WorkerReason
from penstock_scheduler.decision.drained import is_drained
from penstock_scheduler.decision.endpoint_status import decide_status, same_news
from penstock_scheduler.decision.memory import EndpointMemory
from penstock_scheduler.decision.sweep import Sweep, forget_lost
from penstock_scheduler.decision.telling import decision_of, deleting_status, facts_of
from penstock_scheduler.placement.nodes import Booking
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.canary import n_wanted, plan_canary, sides_of
from penstock_scheduler.rollout.image_pins import learn_pins, pin_of
from penstock_scheduler.rollout.rollout import Rollout, plan_workers
from penstock_scheduler.snapshot import QueueLoad, Stage, Worker

#: A worker gives way to another endpoint only when it has been idle for so long.
_GIVE_WAY_IDLE_S: Final = 1.0
#: Among endpoints of the same priority it stays at least so long after it was first seen running.
RESIDENCY_S: Final = 15.0


class EndpointRun:
    """One endpoint in the making of one plan; its methods are called in the order they stand."""

    def __init__(
        self, draft: Draft, endpoint_id: str, workers: list[Worker], memory: EndpointMemory
    ) -> None:
        self.id = endpoint_id
        self.memory = memory
        self.rollout: Rollout | None = None
        self._draft = draft
        self._snapshot = draft.snapshot
        self._record: EndpointRecord | None = draft.snapshot.tables.endpoints.get(endpoint_id)
        self._workers = workers
        #: those of lost nodes that nothing has replaced so far
        self._lost: list[Worker] = []
        self._unproven: dict[str, Booking] = {}

    @property
    def n_surplus(self) -> int:
        """Workers above `min`, this plan included; 0 for an endpoint that waits itself."""
        if self._record is None or self._snapshot.loads.get(self.id, QueueLoad()).waiting:
            return 0
        n_active = sum(self._draft.is_active(w) for w in self._workers)
        return n_active - n_wanted(
            self._record, least_workers(self._record.spec, self._snapshot.utc)
        )

    @property
    def priority(self) -> int:
        """Who gets a place first; 0 for an endpoint whose record has gone."""
        return self._record.spec.placement.priority if self._record else 0

    def idle_workers(self, *, stays_s: float) -> list[Worker]:
        """Workers that could give way after running for `stays_s`, longest idle first."""
        now = self._snapshot.now
        idle = [
            w
            for w in self._workers
            if self._draft.is_active(w)
            and (w.idle_s or 0.0) >= _GIVE_WAY_IDLE_S
            and now - self.memory.ages[w.id].since >= stays_s
        ]
        return sorted(idle, key=lambda w: (-(w.idle_s or 0.0), w.id))

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of it."""
        tables = self._snapshot.tables
        return self._record is None and not (
            self._workers or self.id in tables.endpoint_statuses or self.id in tables.histories
        )

    def remember(self) -> EndpointMemory:
        """What to keep for the next plan."""
        idle_s = [w.idle_s or 0.0 for w in self._workers if w.idle_s is not None]
        since = None
        if idle_s and self.n_surplus > 0:
            since = self._snapshot.now - max(idle_s)
        if since != self.memory.spare_since:
            self.memory = replace(self.memory, spare_since=since)
        return self.memory

    # ---- 1. sweep

    def sweep(self, unproven: dict[str, Booking]) -> None:
        """Forget who is gone, note failures, successes and start times.

        Args:
            unproven: gets the bookings of workers that are forgotten and that nobody saw end.
        """
        self._unproven = unproven
        sweep = Sweep(self._draft, self._record, self.memory, unproven)
        left = sweep.run(self._workers)
        self.memory = sweep.memory
        self._note_pins()
        self._workers, self._lost = left, sweep.lost

    def _note_pins(self) -> None:
        if self._record is not None:
            pins = learn_pins(self.memory.pins, self._workers, self._record)
            self.memory = replace(self.memory, pins=pins)
            for record in sides_of(self._record):
                self._draft.pin(record, pin_of(record, pins))

    # ---- 2. roll out

    def roll_out(self) -> None:
        """Resume, start, replace and drain workers, or drain all."""
        record = self._record
        if record is None:
            # The record of an endpoint goes last, so this is one whose deletion nobody finished.
            if self._snapshot.settled:
                self._draft.drain(self._workers, WorkerReason.ENDPOINT_DELETED)
        elif record.deleted_at is not None:
            self._draft.drain(self._workers, WorkerReason.ENDPOINT_DELETED)
        elif record.paused:
            self._draft.drain(self._workers, WorkerReason.ENDPOINT_PAUSED)
        else:
            if record.canary is None:
                self.rollout = plan_workers(
                    self._draft, record, self._workers, self.memory.scale, self.memory.backoff
                )
            else:
                self.rollout = plan_canary(
                    self._draft,
                    record,
                    self._workers,
                    self.memory.scale,
                    (self.memory.stable_backoff, self.memory.backoff),
                )
            self.memory = replace(self.memory, scale=self.rollout.scale)
        self._settle_lost()

    def _settle_lost(self) -> None:
        """Forget workers of lost nodes as others take their places; await the rest back."""
        n_kept = 0
        if self.rollout is not None:
            n_active = sum(self._draft.is_active(w) for w in self._workers)
            n_kept = self.rollout.desired - n_active - self._draft.creates_of(self.id)
        record = self._record
        for worker in sorted(self._lost, key=lambda w: (w.stage is not Stage.RUNNING, w.id)):
            wanted = record is not None and record.wants(worker.assignment.revision)
            if n_kept > 0 and wanted and not self._draft.is_to_stop(worker):
                self._draft.await_back(worker)
                n_kept -= 1
            else:
                forget_lost(self._draft, worker, self._unproven)

    # ---- 4. drains

    def finish_drains(self) -> None:
        """Tell drained workers to stop."""
        for worker in self._workers:
            if self._draft.desired_of(worker) is not DesiredState.DRAINING:
                continue
            since = self.memory.ages[worker.id].since
            spec = self._record.spec if self._record else worker.assignment.spec
            if is_drained(self._draft, worker, since=since, spec=spec):
                self._draft.desire(worker, DesiredState.STOPPED, self._draft.reason_of(worker))

    # ---- 6. tell

    def tell(self) -> None:
        """Write the endpoint's status if it says something new, and tell of scaling."""
        written = self._snapshot.tables.endpoint_statuses.get(self.id)
        if self._record is None:
            self._tell_gone(written)
            return
        facts = facts_of(self._draft, self._record, self._workers, self.rollout, self.memory)
        status = decide_status(
            self._record, written, facts, token=self._draft.token, utc=self._snapshot.utc
        )
        if written is None or not same_news(status, written):
            self._draft.write_status(status)
        if facts.desired != self.memory.desired:
            decision = decision_of(
                self._record,
                self.rollout,
                status.state,
                before=self.memory.desired,
                after=facts.desired,
                at=self._snapshot.utc,
            )
            self._draft.tell_scale(self.id, decision)
            self.memory = replace(self.memory, desired=facts.desired)

    def _tell_gone(self, written: EndpointStatus | None) -> None:
        if not self._snapshot.settled:
            return
        if not self._workers and self.id in self._snapshot.tables.histories:
            self._draft.delete_history(self.id)
        if written is None:
            return
        if not self._workers:
            self._draft.delete_status(self.id)
            return
        status = deleting_status(
            written, len(self._workers), token=self._draft.token, utc=self._snapshot.utc
        )
        if not same_news(status, written):
            self._draft.write_status(status)
