"""What a plan has to tell of one endpoint: the facts of its status, and why its workers number so many."""

import math
from collections.abc import Sequence
from datetime import datetime

from penstock_autoscaler.least import least_workers
from penstock_common.messages import EndpointRecord, EndpointStatus, ScaleDecision, ScaleInputs
from penstock_common.states import EndpointState
from penstock_scheduler.decision.endpoint_status import Facts, told_unready
from penstock_scheduler.decision.memory import EndpointMemory
from penstock_scheduler.placement.cluster import Request
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.rollout.backoff import QUICK_EXIT_S
from penstock_scheduler.rollout.rollout import Rollout
from penstock_scheduler.rollout.room import find_room
from penstock_scheduler.snapshot import Worker


def facts_of(
    draft: Draft,
    record: EndpointRecord,
    workers: Sequence[Worker],
    rollout: Rollout | None,
    memory: EndpointMemory,
) -> Facts:
    """The facts of an endpoint's status, this plan included.

    Args:
        draft: the plan in the making.
        record: the endpoint.
        workers: its workers that are left.
        rollout: what became of the wish for them; None = it is paused or deleted.
        memory: of this plan.
    """
    snapshot = draft.snapshot
    active = [w for w in workers if draft.is_active(w)]
    running = [w for w in active if w.answers]
    n_created = draft.creates_of(record.endpoint_id)
    desired = rollout.desired if rollout else 0
    lacking = rollout.lacking if rollout else None
    backoff = memory.backoff
    return Facts(
        least=least_workers(record.spec, snapshot.utc),
        desired=desired,
        running=len(running),
        running_new=sum(record.wants(w.assignment.revision) for w in running),
        old=sum(not record.wants(w.assignment.revision) for w in active),
        starting=len(active) - len(running) + n_created,
        draining=len(workers) - len(active),
        backoff=backoff,
        pauses=_pauses(record, memory, snapshot.now),
        lack=lacking[1] if lacking and snapshot.settled else None,
        room_comes=not active and not n_created and _room_comes(draft, record, lacking),
        over_quota=rollout.over_quota if rollout else None,
        unready=told_unready(w for w in active if not w.answers),
        settled=snapshot.settled,
        proven=_proven(record, running, memory, snapshot.now),
        pins=memory.pins,
    )


def decision_of(
    record: EndpointRecord,
    rollout: Rollout | None,
    state: EndpointState,
    *,
    before: int,
    after: int,
    at: datetime,
) -> ScaleDecision:
    """A change of the desired number, with its inputs and why."""
    return ScaleDecision(
        at=at,
        before=before,
        after=after,
        why=rollout.why if rollout else f"the endpoint is {state}",
        inputs=_inputs(record, rollout) if rollout else None,
    )


def deleting_status(
    written: EndpointStatus, n_workers: int, *, token: int, utc: datetime
) -> EndpointStatus:
    """The status of an endpoint whose record has gone, while workers of it are left."""
    return written.model_copy(
        update={
            "state": EndpointState.DELETING,
            "reason": None,
            "message": None,
            "desired_workers": 0,
            "workers_running": 0,
            "workers_starting": 0,
            "workers_draining": n_workers,
            "fencing_token": token,
            "updated_at": utc,
        }
    )


def _room_comes(draft: Draft, record: EndpointRecord, lacking: tuple[Request, str] | None) -> bool:
    """Whether those who wait need only wait until workers have left that are to leave anyway."""
    queue = draft.snapshot.loads.get(record.endpoint_id)
    if lacking is None or queue is None or not queue.waiting:
        return False
    return find_room(draft, lacking[0], ()) == []


def _pauses(record: EndpointRecord, memory: EndpointMemory, now: float) -> bool:
    """Whether nothing may start for now; while one side of a canary may, nobody is refused."""
    stable = record.canary is None or memory.stable_backoff.pauses(now)
    return stable and memory.backoff.pauses(now)


def _proven(
    record: EndpointRecord, running: Sequence[Worker], memory: EndpointMemory, now: float
) -> int | None:
    """The newest revision that has a worker which stayed healthy; None = none has."""
    revisions = [
        w.assignment.revision for w in running if now - memory.ages[w.id].since >= QUICK_EXIT_S
    ]
    if any(map(record.runs, revisions)):
        return record.revision
    return max(revisions, default=None)


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
