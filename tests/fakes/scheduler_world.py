"""A pure world for the scheduler's core: it carries plans out and runs workers in virtual time.

Node agents start workers after `start_s`, one router holds queues and slots and reports after
every step, and after every plan the safety rules are asserted: no GPU twice, never above `max`
(one more while workers are replaced), none placed on a node that takes none, no busy worker told to
stop.
"""

import itertools
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from penstock_common.messages import (
    Canary,
    EndpointRecord,
    NodeOrder,
    NodeRecord,
    WorkerAssignment,
    WorkerOrder,
)
from penstock_common.states import EndpointState, NodeWish, advance_endpoint
from penstock_scheduler.decision.memory import Memory
from penstock_scheduler.decision.reconcile import reconcile
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.snapshot import HeardReport, Snapshot, build_snapshot
from penstock_scheduler.store.reports import ReportBook
from penstock_scheduler.store.view import LiveView
from tests.fakes.scheduler_view import show
from tests.fakes.world_agents import failed, run_agents
from tests.fakes.world_router import dispatch, report, run_router
from tests.fakes.world_rules import check, check_gpus, check_quota, check_stop
from tests.fakes.world_state import Requests, WorldState


class World(WorldState):
    """Everything round the scheduler's core, and the core."""

    #: true = a tick is a pass endpoint by endpoint over a kept view, false = one plan over everything
    by_parts = False

    def __init__(self, *, start_s: float = 5.0, service_s: float = 1.0) -> None:
        super().__init__(start_s=start_s, service_s=service_s)
        self.memory = Memory()
        self.view = LiveView()
        self.book = ReportBook()
        #: endpoints that changes have named since the last time that they were followed
        self.concerned: set[str] = set()
        self.token = 1
        self._revisions = itertools.count(1)
        self._ids = itertools.count(1)

    # ---- what tests do to it

    def put(self, record: EndpointRecord) -> None:
        self.endpoints[record.endpoint_id] = record
        self.requests.setdefault(record.endpoint_id, Requests())

    def join(self, *nodes: NodeRecord) -> None:
        self.nodes |= {node.node_id: node for node in nodes}

    def arrive(self, n: int = 1, endpoint_id: str = "ep-1") -> None:
        requests = self.requests[endpoint_id]
        requests.waiting += [self.now] * n
        requests.arrivals += n
        dispatch(self)

    def leave(self, n: int, endpoint_id: str = "ep-1") -> None:
        """Clients that wait give up, those that came first."""
        del self.requests[endpoint_id].waiting[:n]

    def run(self, seconds: float, dt: float = 0.5, rate: float = 0.0) -> None:
        """Let time pass in steps of `dt`, with `rate` arrivals a second at `ep-1`."""
        due = 0.0
        for _ in range(round(seconds / dt)):
            self.step(dt)
            due += rate * dt
            if due >= 1:
                self.arrive(int(due))
                due -= int(due)
            self.tick()

    def step(self, dt: float) -> None:
        """Time passes; agents and the router do their part."""
        self.now += dt
        run_agents(self)
        run_router(self)

    def have_routers(self, living: set[str], lost: set[str]) -> None:
        """These live, those are lost; with the last one all requests are cut."""
        self.routers, self.lost_routers = frozenset(living), frozenset(lost)
        if not living:
            for slots in self.slots.values():
                slots.ends.clear()

    def change(self, endpoint_id: str = "ep-1", **update: object) -> None:
        """The endpoint's record with other fields."""
        record = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = record.model_copy(update=update)

    def begin_canary(self, endpoint_id: str = "ep-1", percent: int = 20) -> None:
        """The endpoint's next revision shares the traffic with the present one."""
        record = self.endpoints[endpoint_id]
        stable = Canary(
            percent=percent, stable=record.revision, same_as=record.same_as, spec=record.spec
        )
        self.change(endpoint_id, revision=record.revision + 1, same_as=(), canary=stable)

    def abort_canary(self, endpoint_id: str = "ep-1") -> None:
        """The next revision runs what the canary's stable one does."""
        record = self.endpoints[endpoint_id]
        assert record.canary is not None
        same_as = (record.canary.stable, *record.canary.same_as)
        self.change(endpoint_id, revision=record.revision + 1, same_as=same_as, canary=None)

    def sides(
        self, endpoint_id: str = "ep-1"
    ) -> tuple[list[WorkerAssignment], list[WorkerAssignment]]:
        """The workers that are to run: the stable revision's, and the canary's."""
        record, wanted = self.endpoints[endpoint_id], self.wanted(endpoint_id)
        canary = [a for a in wanted if record.runs(a.revision)]
        return [a for a in wanted if a not in canary], canary

    def order(
        self, node_id: str, wish: NodeWish | None, *, deadline_s: float | None = None
    ) -> None:
        """An operator's order about a node; None takes it back."""
        self.orders.pop(node_id, None)
        if wish is not None:
            deadline = None if deadline_s is None else self.utc + timedelta(seconds=deadline_s)
            self.orders[node_id] = NodeOrder(
                node_id=node_id, wish=wish, at=self.utc, deadline_at=deadline
            )

    def stop(self, worker_id: str, *, deadline_s: float | None = None) -> None:
        """Somebody orders a worker to stop."""
        key, assignment = next(
            (k, a) for k, (a, _) in self.assignments.items() if a.worker_id == worker_id
        )
        self.stops[key] = WorkerOrder(
            worker_id=worker_id,
            node_id=assignment.node_id,
            endpoint_id=assignment.endpoint_id,
            at=self.utc,
            deadline_at=None if deadline_s is None else self.utc + timedelta(seconds=deadline_s),
        )

    def replace_leader(self) -> None:
        """A new leader, which remembers nothing, takes over."""
        self.memory = Memory()
        self.token += 1

    # ---- what the scheduler sees

    def reports(self) -> dict[tuple[str, str], HeardReport]:
        if not self.reporting:
            return {}
        return {
            (endpoint_id, router): HeardReport(report(self, endpoint_id, router), self.now)
            for endpoint_id in self.requests
            for router in self.routers
        }

    def snapshot(self) -> Snapshot:
        return build_snapshot(
            self.tables(),
            self.reports(),
            now=self.now,
            utc=self.utc,
            lost_nodes=self.lost_nodes,
            lost_routers=self.lost_routers,
            settled=self.settled,
        )

    # ---- the scheduler

    def tick(self) -> Plan:
        """Decide once on everything, carry it out, and check the safety rules."""
        run_agents(self)
        if self.by_parts:
            return self._pass()
        plan, self.memory = reconcile(
            self.snapshot(), self.memory, new_id=self._new_id, token=self.token
        )
        self.plans.append(plan)
        self.apply(plan)
        check(self)
        return plan

    def poke(self, *endpoint_ids: str, fleet_wide: bool = False) -> Plan:
        """Decide on these endpoints alone, as the loop does."""
        run_agents(self)
        reports = show(self.view, self.tables(), self.reports(), self.concerned)
        freed, self.view.ledger.freed = self.view.ledger.freed, False
        owners, self.view.ledger.freed_owners = self.view.ledger.freed_owners, set()
        owned = {n for n in self.memory.over_quota if self.endpoints[n].owner in owners}
        snapshot = self.view.snapshot(
            {*endpoint_ids, *owned, *(self.memory.lacking if freed else ())},
            reports,
            now=self.now,
            utc=self.utc,
            lost_nodes=lambda names: self.lost_nodes & frozenset(names),
            lost_routers=lambda names: self.lost_routers & frozenset(names),
            settled=self.settled,
            fleet_wide=fleet_wide,
        )
        plan, self.memory = reconcile(
            snapshot,
            self.memory,
            new_id=self._new_id,
            token=self.token,
            ledger=self.view.ledger,
        )
        self.plans.append(plan)
        self.apply(plan)
        check(self, snapshot.only)
        return plan

    def follow_pokes(self, limit: int = 40) -> None:
        """Decide on what changes name and on nothing else, until they name nobody."""
        for _ in range(limit):
            run_agents(self)
            reports = self.reports()
            show(self.view, self.tables(), reports, self.concerned)
            self.concerned |= {
                name for (name, _), h in reports.items() if self.book.hear(h.report, self.now)
            }
            ledger = self.view.ledger
            if not (self.concerned or ledger.freed or ledger.freed_owners):
                return
            named = set(self.concerned)
            self.concerned.clear()
            self.poke(*named)
        raise AssertionError(f"no end of plans: {self.plans[-1]}")

    def resting(self) -> set[str]:
        """Endpoints at rest by what is known now."""
        reports = show(self.view, self.tables(), self.reports())
        self.view.ledger.freed = False
        return {n for n in self.view.known() if self.view.at_rest(n, self.memory, reports)}

    def _pass(self) -> Plan:
        reports = show(self.view, self.tables(), self.reports())
        order = self.view.in_order(self.view.known(), reports)
        concerned = self.view.concerned_fleet_wide(self.memory, reports)
        concerned |= {
            name for (name, _), h in self.reports().items() if self.book.hear(h.report, 0)
        }
        plans = [self.poke(*concerned, fleet_wide=True)]
        plans += [self.poke(endpoint_id) for endpoint_id in order]
        return _joined(plans)

    def settle(self, limit: int = 20) -> None:
        """Tick without letting time pass until a plan is empty."""
        for _ in range(limit):
            if not self.tick():
                return
        raise AssertionError(f"no end of plans: {self.plans[-1]}")

    def apply(self, plan: Plan) -> None:
        for assignment in (*plan.creates, *plan.changes):
            check_stop(self, assignment)
            check_gpus(self, assignment, created=assignment in plan.creates)
            key = f"{assignment.node_id}.{assignment.worker_id}"
            self.assignments[key] = (assignment, next(self._revisions))
        for created in plan.creates:
            assert created.node_id not in self.orders, f"placed against an order: {created}"
            assert not self.nodes[created.node_id].restarting, f"its agent is away: {created}"
            self.starts.append((self.now, created.worker_id))
        for key in plan.deletes:
            usage = plan.usages[key]
            self.usages.setdefault(usage.worker_id, usage)
            del self.assignments[key]
        for owner in {created.owner for created in plan.creates} & set(self.keys):
            check_quota(self, self.keys[owner or ""])
        for status in plan.statuses:
            before = self.statuses.get(status.endpoint_id)
            if before is not None and before.state is not EndpointState.DELETING:
                advance_endpoint(before.state, status.state)
            self.statuses[status.endpoint_id] = status
        for endpoint_id in plan.status_deletes:
            del self.statuses[endpoint_id]
        self.histories |= {history.endpoint_id: history for history in plan.histories}
        for endpoint_id in plan.history_deletes:
            del self.histories[endpoint_id]
        run_agents(self)
        dispatch(self)

    def _new_id(self) -> str:
        return f"wk-{next(self._ids):04}"

    def kill(self, worker_id: str, message: str = "exited with exit code 1") -> None:
        """A worker dies by itself."""
        for key, status in self.worker_statuses.items():
            if status.worker_id == worker_id:
                self.worker_statuses[key] = failed(self, status, message)
                self.slots.pop(worker_id, None)


def _joined(plans: list[Plan]) -> Plan:
    steps: dict[str, Any] = {}
    for part in fields(Plan):
        of_each = [getattr(plan, part.name) for plan in plans]
        if isinstance(of_each[0], Mapping):
            steps[part.name] = {key: value for each in of_each for key, value in each.items()}
        else:
            steps[part.name] = tuple(step for each in of_each for step in each)
    return Plan(**steps)
