"""One endpoint's load as the autoscaler is told of it."""

from collections.abc import Sequence

from penstock_autoscaler.load import Load, Starting
from penstock_common.specs import EndpointSpec
from penstock_common.states import Phase
from penstock_scheduler.snapshot import QueueLoad, Snapshot, Stage, Worker


def load_of(
    spec: EndpointSpec, queue: QueueLoad, active: Sequence[Worker], snapshot: Snapshot
) -> Load:
    """The autoscaler's view: the queue, and the workers that take or will take requests."""
    running = [w for w in active if w.stage is Stage.RUNNING]
    # One that its driver has not spoken of yet takes requests as far as anybody knows.
    unready = [w for w in running if w.load is not None and not w.load.accepting]
    slots = spec.workers.max_concurrency
    return Load(
        waiting=queue.waiting,
        oldest_wait_s=queue.oldest_wait_s,
        in_flight=queue.in_flight,
        arrivals=queue.arrivals,
        service_time_s=queue.service_time_s,
        running=len(running) - len(unready),
        unready=len(unready),
        free_slots=sum(
            max(0, slots - w.load.in_flight)
            for w in running
            if w.load is not None and w.load.accepting
        ),
        starting=tuple(_starting(w, snapshot) for w in active if w.stage is Stage.STARTING),
    )


def _starting(worker: Worker, snapshot: Snapshot) -> Starting:
    """How far a worker is; no clock of a node is compared with ours."""
    age_s = max(0.0, (snapshot.utc - worker.assignment.assigned_at).total_seconds())
    phases = worker.status.phases if worker.status else {}
    received_at = phases.get(Phase.RECEIVED)
    if received_at is None:
        return Starting(age_s)
    last = max(phases, key=list(Phase).index)
    reached_after_s = max(0.0, (phases[last] - received_at).total_seconds())
    return Starting(age_s, last, max(0.0, age_s - reached_after_s))
