"""The documents that the api shows, joined from the records of all services [pure]."""

from penstock_api.loads import EndpointLoad
from penstock_client.documents import (
    CanaryDocument,
    EndpointDocument,
    HealthProblemDocument,
    Load,
    WorkerDocument,
    WorkerOrderDocument,
)
from penstock_common.messages import (
    EndpointRecord,
    EndpointStatus,
    WorkerAssignment,
    WorkerLoad,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.states import EndpointState, Phase, WorkerState


def shown_state(record: EndpointRecord, status: EndpointStatus | None) -> EndpointState:
    """The state to show, when the scheduler's status may not know the record's last change yet.

    What the owner wants counts at once (`deleting`, `paused`); a status from before a resume or a
    new revision does not pass for the state after it, so that who waits for `serving` waits for
    the revision that was asked for.
    """
    if record.deleted_at is not None:
        return EndpointState.DELETING
    if record.paused:
        return EndpointState.PAUSED
    if status is None or status.state in {EndpointState.PAUSED, EndpointState.DELETING}:
        return EndpointState.DEPLOYING
    if status.revision < record.revision and status.state is not EndpointState.DEPLOYING:
        return EndpointState.UPDATING
    return status.state


def endpoint_document(
    record: EndpointRecord, status: EndpointStatus | None, load: EndpointLoad, *, router_url: str
) -> EndpointDocument:
    """An endpoint as the api shows it; secrets by name only.

    Args:
        record: what its owner wants.
        status: what the scheduler says; None before it has said anything.
        load: its requests right now.
        router_url: where the routers are reached, without a slash at the end.
    """
    spec = record.spec
    state = shown_state(record, status)
    # Why another state was reached says nothing about the one that is shown.
    told = status if status is not None and status.state is state else None
    return EndpointDocument(
        id=record.endpoint_id,
        owner=record.owner,
        name=spec.name,
        app_name=spec.app_name,
        url=f"{router_url}/{spec.app_name}",
        state=state,
        reason=told.reason if told else None,
        message=told.message if told else None,
        revision=record.revision,
        failed_revision=status.failed_revision if status else None,
        canary=_canary(record),
        image_digest=_image_digest(record, status),
        workers_running=status.workers_running if status else 0,
        workers_starting=status.workers_starting if status else 0,
        workers_draining=status.workers_draining if status else 0,
        workers_desired=status.desired_workers if status else 0,
        load=Load(
            waiting=load.waiting,
            in_flight=load.in_flight,
            oldest_wait_s=load.oldest_wait_s,
            service_p50_s=load.service_p50_s,
            service_p95_s=load.service_p95_s,
            service_p99_s=load.service_p99_s,
            arrivals_per_s=load.arrivals_per_s,
        ),
        image=spec.image,
        gpu=spec.gpu,
        workers=spec.workers,
        scaling=spec.scaling,
        placement=spec.placement,
        queue=spec.queue,
        health=spec.health,
        storage=spec.storage,
        env=spec.env,
        secrets=tuple(sorted(spec.secrets)),
        public=spec.public,
        created_at=record.created_at,
        updated_at=record.updated_at,
        deleted_at=record.deleted_at,
        retry_at=told.retry_at if told else None,
        exit_code=told.exit_code if told else None,
        log_tail=told.log_tail if told else (),
    )


def _canary(record: EndpointRecord) -> CanaryDocument | None:
    canary = record.canary
    if canary is None:
        return None
    return CanaryDocument(percent=canary.percent, stable_revision=canary.stable)


def _image_digest(record: EndpointRecord, status: EndpointStatus | None) -> str | None:
    pins = status.image_digests if status else {}
    revisions = (record.revision, *record.same_as)
    return next((pins[revision] for revision in revisions if revision in pins), None)


def worker_document(
    assignment: WorkerAssignment,
    status: WorkerStatus | None,
    load: WorkerLoad | None,
    order: WorkerOrder | None = None,
) -> WorkerDocument:
    """A worker as the api shows it.

    Args:
        assignment: what the scheduler wants.
        status: what its node agent says; None before the agent has seen it.
        load: what its driver counts; None when that has not reported of late.
        order: to stop it; None = nobody has given one.
    """
    reason = status.reason if status else None
    return WorkerDocument(
        id=assignment.worker_id,
        endpoint_id=assignment.endpoint_id,
        node_id=assignment.node_id,
        revision=assignment.revision,
        desired=assignment.desired,
        order=_order(order) if order else None,
        state=status.state if status else WorkerState.PENDING,
        reason=reason or assignment.reason,
        message=status.message if status else None,
        gpus=assignment.gpus,
        driver=assignment.driver,
        host=status.host if status else None,
        port=status.port if status else None,
        decided_at=assignment.decided_at,
        phases_ms=_phases_ms(assignment, status),
        pull_bytes=status.pull_bytes if status else None,
        pull_total_bytes=status.pull_total_bytes if status else None,
        in_flight=load.in_flight if load else None,
        idle_s=load.idle_s if load else None,
        image_digest=status.image_digest if status else None,
        image_note=status.image_note if status else None,
        health_problem=_health_problem(status) if status else None,
        exit_code=status.exit_code if status else None,
        log_tail=status.log_tail if status else (),
    )


def _order(order: WorkerOrder) -> WorkerOrderDocument:
    return WorkerOrderDocument(reason=order.reason, at=order.at, deadline_at=order.deadline_at)


def _health_problem(status: WorkerStatus) -> HealthProblemDocument | None:
    problem = status.health_problem
    if problem is None:
        return None
    return HealthProblemDocument(message=problem.message, fix=problem.fix, since=problem.since)


def _phases_ms(assignment: WorkerAssignment, status: WorkerStatus | None) -> dict[str, float]:
    reached = {
        Phase.DECIDED: assignment.decided_at,
        Phase.ASSIGNED: assignment.assigned_at,
        **(status.phases if status else {}),
    }
    # In the order of the enum, which is the order of a start. Clocks of hosts differ: an offset
    # may come out negative, and is shown so rather than hidden.
    return {
        phase.value: round((reached[phase] - assignment.decided_at).total_seconds() * 1000, 3)
        for phase in Phase
        if phase in reached
    }
