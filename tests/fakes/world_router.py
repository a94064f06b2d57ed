"""A router in virtual time: it holds queues and slots, and reports."""

from penstock_common.messages import QueueReport, WorkerAssignment, WorkerLoad
from penstock_common.states import DesiredState, WorkerState
from tests.fakes.world_state import Slots, WorldState


def _takes_requests(world: WorldState, key: str, assignment: WorkerAssignment) -> bool:
    status = world.worker_statuses.get(key)
    return (
        assignment.desired is DesiredState.RUNNING
        and assignment.driver in world.routers
        and status is not None
        and status.state is WorkerState.RUNNING
    )


def run_router(world: WorldState) -> None:
    for assignment, _ in world.assignments.values():
        slots = world.slots.get(assignment.worker_id)
        if slots is None:
            continue
        requests = world.requests[assignment.endpoint_id]
        done = [end for end in slots.ends if end <= world.now]
        if done:
            slots.ends = [end for end in slots.ends if end > world.now]
            slots.idle_since = world.now
            requests.completions += len(done)
            requests.service_time_s = world.service_s
    dispatch(world)


def dispatch(world: WorldState) -> None:
    in_order = list(world.assignments.items())
    if world.spread:
        in_order.sort(key=lambda item: _last_used(world, item[1][0].worker_id))
    for key, (assignment, _) in in_order:
        if not _takes_requests(world, key, assignment):
            continue
        slots = world.slots.setdefault(assignment.worker_id, Slots(idle_since=world.now))
        requests = world.requests[assignment.endpoint_id]
        record = world.endpoints.get(assignment.endpoint_id)
        n_slots = (record or assignment).spec.workers.max_concurrency
        while requests.waiting and len(slots.ends) < n_slots:
            requests.waits.append(world.now - requests.waiting.pop(0))
            slots.ends.append(world.now + world.service_s)


def _last_used(world: WorldState, worker_id: str) -> float:
    slots = world.slots.get(worker_id)
    return slots.idle_since or 0.0 if slots else 0.0


def report(world: WorldState, endpoint_id: str, router: str) -> QueueReport:
    requests = world.requests[endpoint_id]
    mine = router == min(world.routers)  # all clients are at one router
    loads = []
    for key, (assignment, revision) in world.assignments.items():
        if assignment.endpoint_id != endpoint_id or assignment.driver != router:
            continue
        slots = world.slots.get(assignment.worker_id, Slots())
        idle_s = 0.0
        if not slots.ends and slots.idle_since is not None:
            idle_s = world.now - slots.idle_since
        loads.append(
            WorkerLoad(
                worker_id=assignment.worker_id,
                in_flight=len(slots.ends),
                accepting=_takes_requests(world, key, assignment),
                idle_s=idle_s,
                assignment_revision=revision,
            )
        )
    in_flight = sum(load.in_flight for load in loads)
    waiting = requests.waiting if mine else []
    return QueueReport(
        router_id=router,
        endpoint_id=endpoint_id,
        sent_at=world.utc,
        waiting=len(waiting),
        oldest_wait_s=world.now - waiting[0] if waiting else 0.0,
        in_flight=in_flight,
        arrivals_total=requests.arrivals if mine else 0,
        completions_total=requests.completions if mine else 0,
        service_time_s=requests.service_time_s if mine else None,
        workers=tuple(loads),
    )
