"""The safety rules of the scheduler, asserted after each plan and each change in it."""

from penstock_common.messages import ApiKeyRecord, EndpointRecord, WorkerAssignment
from penstock_common.states import ENDED, DesiredState, GpuReason, WorkerReason
from tests.fakes.world_state import WorldState


def check(world: WorldState, only: frozenset[str] | None = None) -> None:
    """Assert the safety rules; the limits of those endpoints that the last plan was made for."""
    held: set[str] = set()
    for key, (assignment, _) in world.assignments.items():
        status = world.worker_statuses.get(key)
        if assignment.node_id in world.lost_nodes or (status and status.state in ENDED):
            continue
        assert not held & set(assignment.gpus), f"a GPU twice: {assignment}"
        held |= set(assignment.gpus)
    for record in world.endpoints.values():
        if only is not None and record.endpoint_id not in only:
            continue
        alive = {
            k: a
            for k, (a, _) in world.assignments.items()
            if a.endpoint_id == record.endpoint_id
            and a.desired is DesiredState.RUNNING
            and not (k in world.worker_statuses and world.worker_statuses[k].state in ENDED)
        }
        told = {s.image_digest for k, s in world.worker_statuses.items() if k in alive}
        surge = len(told - {None}) > 1  # one of them strays, and is replaced
        surge |= any(_is_replaced(world, a, record) for a in alive.values())
        if record.canary is not None:
            drivers = {a.driver for a in alive.values() if a.node_id not in world.lost_nodes}
            assert len(drivers) <= 1, f"a canary driven by {drivers}"
            surge = True  # one of either side while one is wanted, and while one side grows
        assert len(alive) <= record.spec.workers.max + surge, f"{len(alive)} workers"


def check_quota(world: WorldState, key: ApiKeyRecord) -> None:
    """After a start for this key: its workers that may still hold GPUs are no more than may."""
    held = [
        assignment
        for k, (assignment, _) in world.assignments.items()
        if assignment.owner == key.key_id
        and assignment.node_id not in world.lost_nodes
        and not (k in world.worker_statuses and world.worker_statuses[k].state in ENDED)
    ]
    if key.max_workers is not None:
        assert len(held) <= key.max_workers, f"{len(held)} workers of {key.key_id}"
    if key.max_gpus is not None:
        n_gpus = sum(len(assignment.gpus) for assignment in held)
        assert n_gpus <= key.max_gpus, f"{n_gpus} GPUs of {key.key_id}"


def _is_replaced(world: WorldState, assignment: WorkerAssignment, record: EndpointRecord) -> bool:
    return (
        world.is_bad(assignment)
        or world.is_draining(assignment.node_id)
        or assignment.revision != record.revision
    )


def check_gpus(world: WorldState, assignment: WorkerAssignment, *, created: bool) -> None:
    """Nothing is placed on a bad GPU; none leaves a good one for being bad."""
    if created:
        assert not world.faults_of(assignment), f"placed on a bad GPU: {assignment}"
    before, _ = world.assignments.get(
        f"{assignment.node_id}.{assignment.worker_id}", (assignment, 0)
    )
    if assignment.desired is before.desired:
        return
    if assignment.desired is DesiredState.RUNNING:
        assert not world.is_bad(assignment), f"back on a bad GPU: {assignment}"
        ordered = f"{assignment.node_id}.{assignment.worker_id}" in world.stops
        assert not ordered, f"back against an order: {assignment}"
    if assignment.reason is WorkerReason.GPU_LOST:
        assert GpuReason.LOST in world.faults_of(assignment)
    if (
        assignment.reason is WorkerReason.GPU_UNHEALTHY
        and assignment.desired is DesiredState.DRAINING
    ):
        assert world.is_bad(assignment), f"drained from a good GPU: {assignment}"


def check_stop(world: WorldState, assignment: WorkerAssignment) -> None:
    if assignment.reason is WorkerReason.GPU_LOST:
        return
    order = world.stops.get(f"{assignment.node_id}.{assignment.worker_id}")
    if order is not None and order.deadline_at is not None and order.deadline_at <= world.utc:
        return
    stopped = assignment.desired is DesiredState.STOPPED
    if stopped and world.routers and assignment.driver is not None:
        assert not world.in_flight(assignment.worker_id), f"stopped while busy: {assignment}"
