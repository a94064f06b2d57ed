"""A new revision: the new workers start before the old ones go."""

import pytest

from penstock_common.states import EndpointState
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


def test_an_update_starts_the_new_before_it_stops_the_old(world: World) -> None:
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 2
        assert len(world.wanted()) <= 3
    assert {a.revision for a in world.of()} == {2}
    assert world.state() is EndpointState.SERVING
    states = [s.state for p in world.plans for s in p.statuses]
    assert EndpointState.UPDATING in states
    assert EndpointState.DEPLOYING not in states[states.index(EndpointState.UPDATING) :]


def test_without_a_spare_gpu_an_old_worker_makes_room(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=2)}
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 1  # one at a time
    assert [a.revision for a in world.of()] == [2, 2]
    assert world.state() is EndpointState.SERVING


def test_without_requests_old_workers_just_go(world: World) -> None:
    world.put(make_record(workers={"idle_timeout_s": 1000}))
    world.settle()
    world.arrive(1)
    world.run(20)
    assert world.running() == 1
    world.change(revision=2)
    world.run(3)
    assert world.of() == []
    assert world.state() is EndpointState.SERVING


def test_a_revision_that_cannot_start_leaves_the_old_one_serving(world: World) -> None:
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(6)
    world.fails = lambda a: "exited with exit code 1" if a.revision == 2 else None
    world.change(revision=2)
    world.run(120)
    assert world.running() == 1
    status = world.statuses["ep-1"]
    assert (status.state, status.exit_code) == (EndpointState.UPDATING, 1)
    world.change(revision=3)
    world.run(10)
    assert [a.revision for a in world.of()] == [3]
    status = world.statuses["ep-1"]
    assert (status.state, status.reason, status.exit_code) == (EndpointState.SERVING, None, None)


def test_another_revision_in_the_middle_of_an_update(world: World) -> None:
    """All that run are old and one more than `max`: one must go before a new one can come."""
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    world.tick()
    world.change(revision=3)
    world.run(60)
    assert [a.revision for a in world.of()] == [3, 3]
