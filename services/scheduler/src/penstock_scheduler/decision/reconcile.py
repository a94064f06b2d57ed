"""From what is wanted and what is seen to a plan.

Theory of operation. `reconcile` is level-triggered: it looks at the whole snapshot, and a plan that
was carried out and seen gives an empty one. Its memory only speeds it up or damps it; a new leader
begins with none. A snapshot may show some endpoints alone; what the others hold stands in the
ledger, and steps that concern several endpoints wait for a decision that is `fleet_wide`. Steps over
the endpoints shown, each seeing the plan so far:

1. Sweep: forget workers whose process is gone; take note of failures and of start times; stop
   workers whose GPU is gone (`gpu_faults.py`). Workers of lost nodes count for nothing; each is
   forgotten once another takes its place (2), and until then it may come back with its node.
2. Roll out: for each endpoint, highest priority first, then longest waiting, resume, start, replace
   and drain workers.
3. Give way (fleet-wide): idle workers of endpoints above their `min` leave when another endpoint of
   at least their priority waits and nothing else fits, those of the lowest priority first. Among
   equals a worker stays for a minimum time (`RESIDENCY_S`), lest two endpoints take the same GPU from
   each other in turns; one of a lower priority cannot take it back, so it needs no such time.
4. Drain: draining workers whose driver has said that they are empty are told to stop.
5. Drive: workers without a living driver get one, those that drain after a driver's death as well.
6. Tell: statuses that changed, and events.

A worker's GPUs are free once its node has said that its process is gone, or its node is gone; if
such a node comes back, GPUs of workers it still reports stay booked (`Memory.unproven`).
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from penstock_common.states import ENDED, DesiredState, WorkerReason
from penstock_scheduler.decision.endpoint_run import RESIDENCY_S, EndpointRun
from penstock_scheduler.decision.memory import EndpointMemory, Memory, begin_memory
from penstock_scheduler.holdings.ledger import Ledger, holding_of
from penstock_scheduler.leaving.node_orders import drained_nodes
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.rollout.room import find_room
from penstock_scheduler.snapshot import QueueLoad, Snapshot, Stage, Worker


def reconcile(
    snapshot: Snapshot,
    memory: Memory,
    *,
    new_id: Callable[[], str],
    token: int,
    ledger: Ledger | None = None,
) -> tuple[Plan, Memory]:
    """The plan for the endpoints that this snapshot shows.

    Args:
        snapshot: everything known of them; its tables must be whole and current.
        memory: what the last call gave; never mutated.
        new_id: gives a fresh worker id.
        token: fencing token of the leader, written into every record.
        ledger: who holds what as of the snapshot; the plan's steps are written into it. None = make
            one, for which the snapshot must show all endpoints.

    Returns:
        (plan, memory): an empty plan when everything is as it should be.
    """
    if ledger is None:
        ledger = _ledger_of(snapshot)
    statuses = snapshot.tables.worker_statuses
    unproven = {
        key: booking
        for key, booking in memory.unproven.items()
        if key in statuses and statuses[key].state not in ENDED
    }
    ledger.begin(unproven)
    draft = Draft(snapshot, ledger=ledger, new_id=new_id, token=token)
    by_endpoint: dict[str, list[Worker]] = {}
    for worker in snapshot.workers.values():
        by_endpoint.setdefault(worker.assignment.endpoint_id, []).append(worker)
    lost_nodes = _tell_lost_nodes(draft, memory)

    views = []
    for endpoint_id in _in_order(snapshot, by_endpoint):
        before = memory.endpoints.get(endpoint_id) or begin_memory(snapshot, endpoint_id)
        view = EndpointRun(draft, endpoint_id, by_endpoint.get(endpoint_id, []), before)
        view.sweep(unproven)
        views.append(view)
    _stop_lost(draft)
    for view in views:
        view.roll_out()
    if snapshot.fleet_wide:
        _give_way(draft, views)
    for view in views:
        view.finish_drains()
    _drive(draft)
    for view in views:
        view.tell()
    drained = _tell_drained_nodes(draft, memory)
    remembered = _remember(snapshot, memory, views)
    return draft.plan(), replace(
        remembered, lost_nodes=lost_nodes, drained_nodes=drained, unproven=unproven
    )


def _ledger_of(snapshot: Snapshot) -> Ledger:
    if snapshot.only is not None:
        raise ValueError("some endpoints alone do not tell who holds what")
    tables = snapshot.tables
    ledger = Ledger(tables.nodes, tables.node_orders, tables.routers)
    for worker in snapshot.workers.values():
        ledger.put(worker.key, holding_of(worker.assignment, worker.status))
    return ledger


def _remember(snapshot: Snapshot, memory: Memory, views: list[EndpointRun]) -> Memory:
    """The memory after this plan: of the endpoints shown the new one, of others what it was."""
    endpoints: dict[str, EndpointMemory] = {}
    lacking: set[str] = set()
    over_quota: set[str] = set()
    if snapshot.only is not None:
        endpoints |= memory.endpoints
        lacking |= memory.lacking - snapshot.only
        over_quota |= memory.over_quota - snapshot.only
    for view in views:
        if view.is_gone:
            endpoints.pop(view.id, None)
            continue
        endpoints[view.id] = view.remember()
        if view.rollout and view.rollout.lacking:
            lacking.add(view.id)
        if view.rollout and view.rollout.over_quota:
            over_quota.add(view.id)
    return Memory(endpoints, lacking=frozenset(lacking), over_quota=frozenset(over_quota))


def _in_order(snapshot: Snapshot, by_endpoint: Mapping[str, list[Worker]]) -> list[str]:
    """The endpoints to decide on; who gets places first first."""
    tables = snapshot.tables
    shown: Set[str] | None = snapshot.only
    if shown is None:
        shown = {*tables.endpoints, *by_endpoint, *tables.endpoint_statuses, *tables.histories}
    idle = QueueLoad()

    def turn(endpoint_id: str) -> tuple[int, float, str]:
        record = tables.endpoints.get(endpoint_id)
        priority = record.spec.placement.priority if record else 0
        return -priority, -snapshot.loads.get(endpoint_id, idle).oldest_wait_s, endpoint_id

    return sorted(shown, key=turn)


# ---- 1. sweep


def _stop_lost(draft: Draft) -> None:
    """Stop every worker whose GPU is gone: nothing of it can be finished."""
    for worker in draft.snapshot.workers.values():
        going = worker.stage in (Stage.STOPPING, Stage.ENDED) or draft.is_deleted(worker)
        if not going and draft.gpu_faults.is_lost(worker):
            draft.desire(worker, DesiredState.STOPPED, WorkerReason.GPU_LOST)


# ---- 3. give way


def _give_way(draft: Draft, views: list[EndpointRun]) -> None:
    """Let idle workers leave for endpoints that wait and find no place."""
    for view in views:
        lacking = view.rollout.lacking if view.rollout else None
        queue = draft.snapshot.loads.get(view.id)
        if lacking is None or queue is None or not queue.waiting:
            continue
        candidates: list[tuple[int, Worker]] = []
        for other in views:
            if other is view or other.priority > view.priority or other.n_surplus <= 0:
                continue
            stays_s = RESIDENCY_S if other.priority == view.priority else 0.0
            leaving = other.idle_workers(stays_s=stays_s)[: other.n_surplus]
            candidates += [(other.priority, worker) for worker in leaving]
        candidates.sort(key=lambda c: (c[0], -(c[1].idle_s or 0.0), c[1].id))
        for worker in find_room(draft, lacking[0], [w for _, w in candidates]) or ():
            draft.desire(worker, DesiredState.DRAINING, WorkerReason.SCALED_DOWN)


# ---- 5. drive


def _drive(draft: Draft) -> None:
    """Give every wanted worker a living driver, and every one that drains whose driver died."""
    lost = draft.snapshot.lost_routers
    driven: list[Worker] = []
    for worker in draft.snapshot.workers.values():
        driver = worker.assignment.driver
        record = draft.snapshot.tables.endpoints.get(worker.assignment.endpoint_id)
        if not draft.is_active(worker):
            if driver in lost and draft.drains(worker) and draft.snapshot.tables.routers:
                draft.drive(worker, draft.ledger.drives.pick(worker.assignment.endpoint_id))
            continue
        if record is not None and record.canary is not None:
            # Who counts all of its requests splits them exactly (docs/adr/0017).
            draft.drive(worker, draft.ledger.drives.pick(record.endpoint_id, together=True))
        elif driver is None or driver in lost:
            draft.drive(worker, draft.ledger.drives.pick(worker.assignment.endpoint_id))
        else:
            driven.append(worker)
    if driven and draft.snapshot.settled and draft.snapshot.fleet_wide:
        for worker, router in draft.ledger.drives.plan_relief(driven):
            draft.drive(worker, router)


def _tell_lost_nodes(draft: Draft, memory: Memory) -> frozenset[str]:
    """Tell of nodes that are lost since the last plan; gives all that are lost."""
    lost, present = draft.snapshot.lost_nodes, draft.snapshot.tables.nodes
    for node_id in sorted(lost - memory.lost_nodes):
        draft.tell_node_lost(node_id, draft.ledger.n_workers_on(node_id))
    before = frozenset(
        n for n in memory.lost_nodes if n not in present and draft.ledger.n_workers_on(n)
    )
    return lost | before


def _tell_drained_nodes(draft: Draft, memory: Memory) -> frozenset[str]:
    """Tell of nodes that are empty since the last plan, as was ordered; gives all that are."""
    tables = draft.snapshot.tables
    drained = drained_nodes(tables.nodes, tables.node_orders, draft.ledger.is_occupied)
    told = drained if memory.drained_nodes is None else memory.drained_nodes
    for node_id in sorted(drained - told):
        draft.tell_node_drained(node_id)
    return drained
