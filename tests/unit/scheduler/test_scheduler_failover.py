"""The leader dies in the middle of a plan: whatever part of it was written, its successor finishes.

A plan's writes go out side by side, so that any of them may be done when the leader is killed and
any not. The successor remembers nothing; it has the tables.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from penstock_common.states import EndpointState, WorkerState
from penstock_scheduler.decision.reconcile import reconcile
from penstock_scheduler.planning.plan import Plan
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


def scaled_up(world: World) -> None:
    world.arrive(40)


def updated(world: World) -> None:
    world.change(revision=2)


def lowered(world: World) -> None:
    world.change(spec=make_record(workers={"min": 1, "max": 1}).spec)


def deleted(world: World) -> None:
    world.change(deleted_at=EPOCH)


def died(world: World) -> None:
    world.kill(world.of()[0].worker_id)


def lost(world: World) -> None:
    world.lost_nodes = frozenset({world.of()[0].node_id})


CHANGES: list[Callable[[World], None]] = [scaled_up, updated, lowered, deleted, died, lost]


def busy_world() -> World:
    """Two running workers of an endpoint that wants two, and room for more."""
    world = World(start_s=3, service_s=1)
    world.join(*(make_node(f"node-{i}", n_gpus=2) for i in range(4)))
    workers: dict[str, object] = {"min": 2, "max": 4, "idle_timeout_s": 5}
    world.put(make_record(workers=workers, scaling={"value": 1}))
    world.run(10)
    assert world.running() == 2
    return world


def part_of(plan: Plan, written: Callable[[int], bool]) -> Plan:
    """The plan with those of its writes that were done; events are told last, so none was."""
    number = iter(range(10_000))
    parts: dict[str, Any] = {
        name: tuple(write for write in getattr(plan, name) if written(next(number)))
        for name in (
            *("creates", "changes", "deletes", "statuses"),
            *("status_deletes", "histories", "history_deletes"),
        )
    }
    return replace(plan, events=(), **parts)


def n_writes(plan: Plan) -> int:
    writes = (plan.creates, plan.changes, plan.deletes, plan.statuses, plan.histories)
    return sum(map(len, (*writes, plan.status_deletes, plan.history_deletes)))


def die_in_a_plan(world: World, written: Callable[[int], bool], *, after: int = 0) -> int:
    """The leader carries out a part of its next plan but `after`, and is replaced."""
    for _ in range(after):
        world.tick()
        world.step(0.5)
    plan, _ = reconcile(world.snapshot(), world.memory, new_id=world._new_id, token=world.token)
    world.apply(part_of(plan, written))
    world.replace_leader()
    return n_writes(plan)


def finish(world: World, change: Callable[[World], None]) -> None:
    """The successor goes on; the world checks every plan. In the end all is as it should be."""
    world.settle()
    world.run(60)
    if change is deleted:
        assert world.of() == []
        assert world.statuses["ep-1"].state is EndpointState.DELETING
        return
    wanted = 1 if change is lowered else 2
    states = [world.worker_statuses[f"{a.node_id}.{a.worker_id}"].state for a in world.of()]
    assert states == [WorkerState.RUNNING] * wanted
    assert {a.revision for a in world.of()} == {world.endpoints["ep-1"].revision}
    assert world.statuses["ep-1"].workers_running == wanted
    assert not world.requests["ep-1"].waiting


@pytest.mark.parametrize("change", CHANGES)
def test_killed_at_each_write_of_each_plan(change: Callable[[World], None]) -> None:
    """Every prefix of the first plans after the change."""
    walked = 0
    for after in range(6):
        total, done = 1, 0
        while done <= total:
            world = busy_world()
            change(world)
            total = die_in_a_plan(world, lambda n, done=done: n < done, after=after)  # type: ignore[misc]  # a default argument binds the loop's variable
            finish(world, change)
            walked += 1
            done += 1
    assert walked > 6


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(CHANGES),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_killed_again_and_again_with_any_part_written(
    change: Callable[[World], None], deaths: list[tuple[int, int]]
) -> None:
    world = busy_world()
    change(world)
    for after, mask in deaths:
        die_in_a_plan(world, lambda n, mask=mask: bool(mask >> n % 8 & 1), after=after)  # type: ignore[misc]  # a default argument binds the loop's variable
    finish(world, change)
