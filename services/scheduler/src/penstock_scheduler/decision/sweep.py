"""The first step for one endpoint: who is gone, who failed, and what that teaches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from penstock_autoscaler.decide import ScaleMemory
from penstock_common.messages import EndpointRecord
from penstock_common.states import Phase, WorkerReason
from penstock_scheduler.decision.memory import Age, EndpointMemory
from penstock_scheduler.holdings.ledger import booking_of
from penstock_scheduler.placement.nodes import Booking
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.backoff import (
    QUICK_EXIT_S,
    Backoff,
    Failure,
    failure_of,
    note_failure,
)
from penstock_scheduler.rollout.canary import sides_of
from penstock_scheduler.snapshot import Stage, Worker

#: Beyond a worker's own limit, how long its node may take to say anything of it.
REPORT_MARGIN_S: Final = 30.0


class Sweep:
    """Goes over the workers of one endpoint once."""

    def __init__(
        self,
        draft: Draft,
        record: EndpointRecord | None,
        memory: EndpointMemory,
        unproven: dict[str, Booking],
    ) -> None:
        """Nothing is swept yet.

        Args:
            draft: the plan in the making.
            record: the endpoint; None = its record has gone.
            memory: what the last plan left.
            unproven: gets the bookings of workers that are forgotten and that nobody saw end.
        """
        self.memory = memory
        #: workers of lost nodes that nothing has replaced so far
        self.lost: list[Worker] = []
        self._draft = draft
        self._snapshot = draft.snapshot
        self._record = record
        self._unproven = unproven

    def run(self, workers: Sequence[Worker]) -> list[Worker]:
        """Forget who is gone, note failures, successes and start times; gives who is left."""
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
        for worker in workers:
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
        own, stable = (*backoffs.values(), Backoff(), Backoff())[:2]
        self.memory = replace(
            self.memory,
            scale=scale,
            backoff=own,
            stable_backoff=stable,
            ages=ages,
            noted=frozenset(noted),
        )
        gone = {w.key for w in self.lost}
        return [w for w in workers if not self._draft.is_deleted(w) and w.key not in gone]

    @staticmethod
    def _given_up(worker: Worker) -> bool:
        """Whether a leader that got no further has written that it ended."""
        return worker.assignment.ended_at is not None

    def _lose(self, worker: Worker) -> None:
        if worker.active and not self._given_up(worker):
            self.lost.append(worker)
            self._draft.set_aside(worker)
        else:
            forget_lost(self._draft, worker, self._unproven)

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


def forget_lost(draft: Draft, worker: Worker, unproven: dict[str, Booking]) -> None:
    """Forget a worker of a lost node; unless it was seen to end, what it holds is unproven."""
    if worker.stage is not Stage.ENDED:
        unproven[worker.key] = booking_of(worker.assignment)
    draft.delete(worker)


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
