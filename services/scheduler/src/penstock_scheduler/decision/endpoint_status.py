"""What an endpoint's status says, from what is known of its workers after a plan."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from penstock_common.messages import EndpointRecord, EndpointStatus
from penstock_common.states import EndpointReason, EndpointState
from penstock_scheduler.rollout.backoff import Backoff
from penstock_scheduler.snapshot import Worker


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one endpoint's workers, the plan's own steps included."""

    #: workers to keep whatever the load, at this instant
    least: int
    desired: int
    running: int
    #: of them, those of the present revision
    running_new: int
    #: workers of older revisions that still take requests or start
    old: int
    starting: int
    draining: int
    backoff: Backoff
    #: whether the pause after a failed start lasts
    pauses: bool
    #: why a wanted worker has no place
    lack: str | None
    #: those who wait get one nevertheless when workers that leave have gone
    room_comes: bool
    #: why the owner's quota lets a wanted worker not start
    over_quota: str | None
    #: why a worker that starts is not healthy yet, as its node says
    unready: str | None
    #: whether the absence of capacity proves anything yet
    settled: bool
    #: the newest revision with a worker that stayed healthy until now
    proven: int | None = None
    #: revision → digest of the image that it runs
    pins: Mapping[int, str] = field(default_factory=dict)


def decide_status(
    record: EndpointRecord,
    previous: EndpointStatus | None,
    facts: Facts,
    *,
    token: int,
    utc: datetime,
) -> EndpointStatus:
    """The status of an endpoint; `previous` is what is written now."""
    if previous and previous.state is EndpointState.DELETING and record.deleted_at is None:
        previous = None  # an endpoint was made anew under an old id, from a backup perhaps
    state = _state(record, previous, facts)
    reason, message = _reason(record, previous, facts, state)
    last = facts.backoff.last if state is not EndpointState.DELETING else None
    good = max((previous and previous.good_revision) or 0, facts.proven or 0) or None
    return EndpointStatus(
        endpoint_id=record.endpoint_id,
        state=state,
        reason=reason,
        message=message,
        revision=record.revision,
        desired_workers=facts.desired,
        workers_running=facts.running,
        workers_starting=facts.starting,
        workers_draining=facts.draining,
        retry_at=facts.backoff.retry_utc if reason is EndpointReason.CRASH_BACKOFF else None,
        exit_code=last.exit_code if last else None,
        log_tail=last.log_tail if last else (),
        good_revision=good,
        failed_revision=record.revision if _has_failed(record, previous, facts, good) else None,
        image_digests=dict(facts.pins),
        fencing_token=token,
        updated_at=utc,
    )


def _has_failed(
    record: EndpointRecord, previous: EndpointStatus | None, facts: Facts, good: int | None
) -> bool:
    """Whether the present revision cannot start, while an earlier one could.

    Said once, it stays said until the api has rolled back or a worker proves otherwise; so it
    outlives the leader that counted the failures.
    """
    if good is None or record.runs(good):
        return False
    said = previous is not None and previous.failed_revision == record.revision
    return said or facts.backoff.proves_failure


def told_unready(workers: Iterable[Worker]) -> str | None:
    """Why workers that start are not healthy yet, in one sentence; None = their nodes do not say.

    It changes only when what a node says changes, so that it makes no more writes than that.
    """
    stuck = [w for w in workers if w.status is not None and w.status.health_problem is not None]
    if not stuck:
        return None
    first = min(stuck, key=lambda w: (w.assignment.decided_at, w.id))
    assert first.status is not None
    problem = first.status.health_problem
    assert problem is not None
    told = f"worker {first.id} on {first.assignment.node_id} is not healthy yet: {problem.message}"
    return f"{told}; {problem.fix}" if problem.fix else told


def same_news(one: EndpointStatus, other: EndpointStatus) -> bool:
    """Whether both say the same, no matter who wrote them when."""
    return one == other.model_copy(
        update={"updated_at": one.updated_at, "fencing_token": one.fencing_token}
    )


def _state(record: EndpointRecord, previous: EndpointStatus | None, facts: Facts) -> EndpointState:
    before = previous.state if previous else EndpointState.DEPLOYING
    least = facts.least
    if record.deleted_at is not None:
        return EndpointState.DELETING
    if record.paused:
        return EndpointState.PAUSED
    if facts.running == 0 and facts.pauses:
        return EndpointState.FAILED
    if facts.old:
        return EndpointState.UPDATING
    if before is EndpointState.UPDATING and facts.running_new < max(least, min(facts.desired, 1)):
        return EndpointState.UPDATING
    if facts.running >= least or before is EndpointState.SERVING:
        return EndpointState.SERVING
    return EndpointState.DEPLOYING


def _reason(
    record: EndpointRecord,
    previous: EndpointStatus | None,
    facts: Facts,
    state: EndpointState,
) -> tuple[EndpointReason | None, str | None]:
    if state in (EndpointState.DELETING, EndpointState.PAUSED):
        return None, None
    last = facts.backoff.last.message if facts.backoff.last else None
    if facts.pauses:
        return EndpointReason.CRASH_BACKOFF, last
    if facts.room_comes:
        return EndpointReason.STARTING, "waits for the place of a worker that leaves"
    if facts.lack is not None:
        # A further worker has no place; those who wait care for the one that starts as well.
        stuck = f"; {facts.unready}" if facts.unready and facts.running == 0 else ""
        return EndpointReason.NO_CAPACITY, f"{facts.lack}{stuck}"
    if facts.over_quota is not None:
        return EndpointReason.QUOTA_EXCEEDED, facts.over_quota
    if (
        not facts.settled
        and previous is not None
        and previous.reason is EndpointReason.NO_CAPACITY
        and facts.running + facts.starting < facts.desired
    ):
        return previous.reason, previous.message  # nothing new is known yet
    awaited = facts.running == 0 or state is EndpointState.UPDATING
    if facts.running < facts.least or (awaited and facts.unready is not None):
        # How the last start failed says more than how far this one is.
        return EndpointReason.STARTING, last or facts.unready
    if last is None and record.revision_why is not None and state is EndpointState.SERVING:
        return EndpointReason.ROLLED_BACK, record.revision_why
    return None, last
