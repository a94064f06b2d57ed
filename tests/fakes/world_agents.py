"""Node agents in virtual time: they start workers after `start_s`, stop them, and say so."""

from penstock_common.messages import WorkerAssignment, WorkerStatus
from penstock_common.states import ENDED, DesiredState, Phase, WorkerState
from tests.fakes.clock import EPOCH
from tests.fakes.world_state import WorldState


def run_agents(world: WorldState) -> None:
    """Each takes the next step with each of its workers, unless they are silent."""
    if world.silent_agents:
        return
    for key, (assignment, _) in world.assignments.items():
        if assignment.node_id in world.lost_nodes or assignment.node_id not in world.nodes:
            continue
        status = world.worker_statuses.get(key) or _received(world, assignment)
        world.worker_statuses[key] = _advance(world, assignment, status)
    for key in [k for k in world.worker_statuses if k not in world.assignments]:
        if key.split(".")[0] not in world.lost_nodes:
            world.slots.pop(world.worker_statuses[key].worker_id, None)
            del world.worker_statuses[key]


def _received(world: WorldState, assignment: WorkerAssignment) -> WorkerStatus:
    return WorkerStatus(
        worker_id=assignment.worker_id,
        node_id=assignment.node_id,
        endpoint_id=assignment.endpoint_id,
        revision=assignment.revision,
        state=WorkerState.PENDING,
        phases={Phase.RECEIVED: world.utc},
        image_digest=assignment.image_digest or world.tag(assignment),
        updated_at=world.utc,
    )


def _advance(world: WorldState, assignment: WorkerAssignment, status: WorkerStatus) -> WorkerStatus:
    if status.state in ENDED:
        return status
    if assignment.desired is DesiredState.STOPPED:
        return _changed(world, status, state=WorkerState.STOPPED)
    ready = Phase.HEALTHY in status.phases
    if not ready and world.now >= (
        world.start_s + (status.phases[Phase.RECEIVED] - EPOCH).total_seconds()
    ):
        message = world.fails(assignment)
        if message is not None:
            return failed(world, status, message)
        phases = {**status.phases, Phase.HEALTHY: world.utc}
        status = _changed(world, status, phases=phases, host="127.0.0.1", port=1)
        ready = True
    if not ready:
        return _changed(world, status, state=WorkerState.STARTING)
    draining = assignment.desired is DesiredState.DRAINING
    state = WorkerState.DRAINING if draining else WorkerState.RUNNING
    return _changed(world, status, state=state)


def failed(world: WorldState, status: WorkerStatus, message: str) -> WorkerStatus:
    return _changed(
        world,
        status,
        state=WorkerState.FAILED,
        reason=world.failure_reason,
        message=message,
        exit_code=1,
        log_tail=("boom",),
    )


def _changed(world: WorldState, status: WorkerStatus, **update: object) -> WorkerStatus:
    return status.model_copy(update={**update, "updated_at": world.utc})
