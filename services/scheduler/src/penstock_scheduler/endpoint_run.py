"""One endpoint in the making of one plan: sweep, roll out, finish drains, tell (`reconcile.py`)."""

import math
from dataclasses import replace
from typing import Final

from penstock_autoscaler.decide import ScaleMemory
from penstock_autoscaler.least import least_workers
from penstock_common.messages import (
    EndpointRecord,
    EndpointStatus,
    ScaleDecision,
    ScaleInputs,
)
from penstock_common.states import DesiredState, EndpointState, Phase, WorkerReason
from penstock_scheduler.backoff import (
    QUICK_EXIT_S,
    Backoff,
    Failure,
    failure_of,
    note_failure,
    recall,
)
from penstock_scheduler.canary import n_wanted, plan_canary, sides_of
from penstock_scheduler.draft import Draft
from penstock_scheduler.endpoint_status import Facts, decide_status, same_news, told_unready
from penstock_scheduler.fleet import Booking
from penstock_scheduler.image_pins import learn_pins, pin_of
from penstock_scheduler.ledger import booking_of
from penstock_scheduler.memory import Age, EndpointMemory
from penstock_scheduler.rollout import Rollout, drain_all, plan_workers
from penstock_scheduler.snapshot import QueueLoad, Snapshot, Stage, Worker

#: Beyond a worker's own limit, how long its node may take to say anything of it.
REPORT_MARGIN_S: Final = 30.0
#: A driver says within this that a worker which never ran is empty, unless it is not.
_UNSTARTED_DRAIN_S: Final = 2.0
#: A worker gives way to another endpoint only when it has been idle for so long.
_GIVE_WAY_IDLE_S: Final = 1.0
#: Among endpoints of the same priority it stays at least so long after it was first seen running.
RESIDENCY_S: Final = 15.0


def begin_memory(snapshot: Snapshot, endpoint_id: str) -> EndpointMemory:
    """What a leader that has no memory of an endpoint can tell from its written status."""
    status = snapshot.tables.endpoint_statuses.get(endpoint_id)
    return EndpointMemory(
        backoff=recall(status, now=snapshot.now, utc=snapshot.utc),
        desired=status.desired_workers if status else 0,
        pins=status.image_digests if status else {},
    )


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
        now = self._snapshot.now
        scale, noted = self.memory.scale, set[str]()
        sides = sides_of(self._record) if self._record is not None else ()
        backoffs = {
            side.revision: backoff if backoff.revision in (0, side.revision) else Backoff()
            for side, backoff in zip(
                sides, (self.memory.backoff, self.memory.stable_backoff), strict=False
            )
        }
        ages: dict[str, Age] = {}
        for worker in self._workers:
            before = self.memory.ages.get(worker.id)
            age = before if before and before.stage is worker.stage else Age(worker.stage, now)
            ages[worker.id] = age
            if self._given_up(worker) or worker.assignment.node_id in self._snapshot.lost_nodes:
                self._lose(worker)
                continue
            if worker.assignment.reason is WorkerReason.NODE_LOST:
                self._draft.desire(worker, worker.assignment.desired, None)  # it is back
            failure = self._failure(worker, age)
            if failure is not None:
                noted.add(worker.id)
                bad_gpu = self._draft.gpu_faults.is_bad(worker)
                if worker.id not in self.memory.noted and not bad_gpu:
                    self._note(backoffs, worker, *failure)
            if failure is not None or worker.stage is Stage.ENDED or self._forgotten(worker, age):
                self._draft.delete(worker)
            elif worker.stage is Stage.RUNNING:
                if before is None or before.stage is not Stage.RUNNING:
                    scale = _learn_start(scale, worker)
                self._forgive(backoffs, worker, age)
        self._note_pin()
        gone = {w.key for w in self._lost}
        self._workers = [
            w for w in self._workers if not self._draft.is_deleted(w) and w.key not in gone
        ]
        own, stable = (*backoffs.values(), Backoff(), Backoff())[:2]
        self.memory = replace(
            self.memory,
            scale=scale,
            backoff=own,
            stable_backoff=stable,
            ages=ages,
            noted=frozenset(noted),
        )

    def _note_pin(self) -> None:
        if self._record is not None:
            pins = learn_pins(self.memory.pins, self._workers, self._record)
            self.memory = replace(self.memory, pins=pins)
            for record in sides_of(self._record):
                self._draft.pin(record, pin_of(record, pins))

    @staticmethod
    def _given_up(worker: Worker) -> bool:
        """Whether a leader that got no further has written that it ended."""
        return worker.assignment.ended_at is not None

    def _lose(self, worker: Worker) -> None:
        if worker.active and not self._given_up(worker):
            self._lost.append(worker)
            self._draft.set_aside(worker)
        else:
            self._forget_lost(worker)

    def _forget_lost(self, worker: Worker) -> None:
        if worker.stage is not Stage.ENDED:
            self._unproven[worker.key] = booking_of(worker.assignment)
        self._draft.delete(worker)

    def _failure(self, worker: Worker, age: Age) -> tuple[Failure, bool] | None:
        """How a worker failed, by its node's word or by its node's silence."""
        failed = failure_of(worker)
        if failed is not None or worker.status is not None or worker.stage is not Stage.STARTING:
            return failed
        assignment = worker.assignment
        allowed_s = assignment.spec.workers.start_timeout_s + REPORT_MARGIN_S
        since_s = min(
            self._snapshot.now - age.since,
            (self._snapshot.utc - assignment.assigned_at).total_seconds(),
        )
        if since_s < allowed_s or assignment.node_id not in self._snapshot.tables.nodes:
            return None
        message = (
            f"node {assignment.node_id} said nothing of worker {worker.id} for {allowed_s:g} s"
        )
        return Failure(worker.id, assignment.node_id, message, timed_out=True), True

    def _note(
        self, backoffs: dict[int, Backoff], worker: Worker, failure: Failure, counts: bool
    ) -> None:
        revision = self._side_of(worker)
        if revision is None:
            return
        backoffs[revision] = note_failure(
            backoffs[revision],
            failure,
            revision=revision,
            counts=counts,
            now=self._snapshot.now,
            utc=self._snapshot.utc,
        )

    def _forgive(self, backoffs: dict[int, Backoff], worker: Worker, age: Age) -> None:
        revision = self._side_of(worker)
        if revision is None:
            return
        healthy_s = self._snapshot.now - max(age.since, backoffs[revision].failed_at)
        if healthy_s >= QUICK_EXIT_S:
            backoffs[revision] = Backoff()

    def _side_of(self, worker: Worker) -> int | None:
        """The revision that the worker runs for: the present one, a canary's stable one, or none."""
        record, revision = self._record, worker.assignment.revision
        if record is None:
            return None
        if record.runs(revision):
            return record.revision
        canary = record.canary
        return canary.stable if canary is not None and canary.runs(revision) else None

    def _forgotten(self, worker: Worker, age: Age) -> bool:
        """Whether a worker that is to stop was never known to its node, which is alive."""
        return (
            worker.stage is Stage.STOPPING
            and worker.status is None
            and worker.assignment.node_id in self._snapshot.tables.nodes
            and self._snapshot.now - age.since
            >= worker.assignment.spec.workers.stop_grace_s + REPORT_MARGIN_S
        )

    # ---- 2. roll out

    def roll_out(self) -> None:
        """Resume, start, replace and drain workers, or drain all."""
        record = self._record
        if record is None:
            # The record of an endpoint goes last, so this is one whose deletion nobody finished.
            if self._snapshot.settled:
                drain_all(self._draft, self._workers, WorkerReason.ENDPOINT_DELETED)
        elif record.deleted_at is not None:
            drain_all(self._draft, self._workers, WorkerReason.ENDPOINT_DELETED)
        elif record.paused:
            drain_all(self._draft, self._workers, WorkerReason.ENDPOINT_PAUSED)
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
                self._forget_lost(worker)

    # ---- 4. drains

    def finish_drains(self) -> None:
        """Tell drained workers to stop."""
        for worker in self._workers:
            if self._draft.desired_of(worker) is DesiredState.DRAINING and self._drained(worker):
                self._draft.desire(worker, DesiredState.STOPPED, self._draft.reason_of(worker))

    def _drained(self, worker: Worker) -> bool:
        """Whether nothing is in flight at a worker and nothing new can be.

        The driver's word counts from the report on in which it has applied the order to drain.
        Without a driver nobody hands out its slots. What a dead router had in flight died with it,
        but not what it had lent to others: another one claims the worker first, and learns of that.
        The last resort is the longest life of a request; an order to stop may set a shorter one.
        """
        if self._draft.is_to_end(worker):
            return True
        driver, load = worker.assignment.driver, worker.load
        if driver is None:
            return True
        if driver in self._snapshot.lost_routers:
            return worker.ready_at is None or not self._snapshot.tables.routers
        if worker.stage is not Stage.DRAINING:
            return False  # this very plan tells it to drain
        if (
            load is not None
            and load.assignment_revision >= worker.revision
            and load.in_flight == 0
            and not load.accepting
        ):
            return True
        drained_s = self._snapshot.now - self.memory.ages[worker.id].since
        if worker.ready_at is None and (load is None or load.in_flight == 0):
            return drained_s >= _UNSTARTED_DRAIN_S
        spec = self._record.spec if self._record else worker.assignment.spec
        return drained_s >= spec.workers.request_timeout_s

    # ---- 6. tell

    def tell(self) -> None:
        """Write the endpoint's status if it says something new, and tell of scaling."""
        written = self._snapshot.tables.endpoint_statuses.get(self.id)
        if self._record is None:
            self._tell_gone(written)
            return
        facts = self._facts()
        status = decide_status(
            self._record, written, facts, token=self._draft.token, utc=self._snapshot.utc
        )
        if written is None or not same_news(status, written):
            self._draft.write_status(status)
        if facts.desired != self.memory.desired:
            self._draft.tell_scale(self.id, self._decision(facts.desired, status.state))
            self.memory = replace(self.memory, desired=facts.desired)

    def _decision(self, desired: int, state: EndpointState) -> ScaleDecision:
        rollout = self.rollout
        return ScaleDecision(
            at=self._snapshot.utc,
            before=self.memory.desired,
            after=desired,
            why=rollout.why if rollout else f"the endpoint is {state}",
            inputs=_inputs(self._record, rollout) if self._record and rollout else None,
        )

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
        status = written.model_copy(
            update={
                "state": EndpointState.DELETING,
                "reason": None,
                "message": None,
                "desired_workers": 0,
                "workers_running": 0,
                "workers_starting": 0,
                "workers_draining": len(self._workers),
                "fencing_token": self._draft.token,
                "updated_at": self._snapshot.utc,
            }
        )
        if not same_news(status, written):
            self._draft.write_status(status)

    def _facts(self) -> Facts:
        assert self._record is not None
        draft, record = self._draft, self._record
        active = [w for w in self._workers if draft.is_active(w)]
        running = [w for w in active if w.answers]
        n_created = draft.creates_of(self.id)
        desired = self.rollout.desired if self.rollout else 0
        lacking = self.rollout.lacking if self.rollout else None
        backoff = self.memory.backoff
        return Facts(
            least=least_workers(record.spec, self._snapshot.utc),
            desired=desired,
            running=len(running),
            running_new=sum(record.wants(w.assignment.revision) for w in running),
            old=sum(not record.wants(w.assignment.revision) for w in active),
            starting=len(active) - len(running) + n_created,
            draining=len(self._workers) - len(active),
            backoff=backoff,
            pauses=self._pauses(),
            lack=lacking[1] if lacking and self._snapshot.settled else None,
            over_quota=self.rollout.over_quota if self.rollout else None,
            unready=told_unready(w for w in active if not w.answers),
            settled=self._snapshot.settled,
            proven=self._proven(record, running),
            pins=self.memory.pins,
        )

    def _pauses(self) -> bool:
        """Whether nothing may start for now; while one side of a canary may, nobody is refused."""
        assert self._record is not None
        now = self._snapshot.now
        stable = self._record.canary is None or self.memory.stable_backoff.pauses(now)
        return stable and self.memory.backoff.pauses(now)

    def _proven(self, record: EndpointRecord, running: list[Worker]) -> int | None:
        """The newest revision that has a worker which stayed healthy; None = none has."""
        now, ages = self._snapshot.now, self.memory.ages
        revisions = [
            w.assignment.revision for w in running if now - ages[w.id].since >= QUICK_EXIT_S
        ]
        if any(map(record.runs, revisions)):
            return record.revision
        return max(revisions, default=None)


def _learn_start(scale: ScaleMemory, worker: Worker) -> ScaleMemory:
    """Learn from a worker that runs; both instants are of its node's clock."""
    status, ready_at = worker.status, worker.ready_at
    if status is None or ready_at is None or Phase.RECEIVED not in status.phases:
        return scale
    rest_s = {
        phase: (ready_at - reached_at).total_seconds()
        for phase, reached_at in status.phases.items()
        if reached_at <= ready_at
    }
    return replace(scale, starts=scale.starts.learn(rest_s))


def _inputs(record: EndpointRecord, rollout: Rollout) -> ScaleInputs:
    decision, load, spec = rollout.decision, rollout.load, record.spec
    wait_s = decision.wait_s
    return ScaleInputs(
        policy=spec.scaling.type,
        value=spec.scaling.value,
        least=decision.least,
        most=spec.workers.max,
        waiting=load.waiting,
        oldest_wait_s=load.oldest_wait_s,
        in_flight=load.in_flight,
        running=load.running,
        starting=load.workers - load.running,
        arrivals_per_s=decision.rate.per_s,
        window_s=decision.rate.window_s,
        burst=decision.rate.burst,
        service_time_s=load.service_time_s,
        service_p95_s=rollout.service_p95_s,
        start_s=decision.start_s,
        predicted_wait_s=None if wait_s is None or math.isinf(wait_s) else wait_s,
    )
