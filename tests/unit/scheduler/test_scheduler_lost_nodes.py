"""A node is lost and returns: what was replaced goes, what was not is kept."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from penstock_common.states import DesiredState, WorkerReason
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


def lose(world: World, *node_ids: str) -> None:
    world.lost_nodes = frozenset(node_ids)


def test_with_room_elsewhere_workers_are_replaced_and_stopped_when_their_node_returns() -> None:
    world = World()
    world.join(make_node("node-a"))
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(10)
    before = {a.worker_id for a in world.of()}
    world.join(make_node("node-b"))
    lose(world, "node-a")
    world.run(10)
    assert {a.node_id for a in world.of()} == {"node-b"}
    assert before <= {s.worker_id for s in world.worker_statuses.values()}  # as far as one knows

    lose(world)
    world.run(10)
    assert {a.node_id for a in world.of()} == {"node-b"}
    assert not before & {s.worker_id for s in world.worker_statuses.values()}


def test_without_room_elsewhere_the_worker_is_kept_and_serves_again_with_its_node() -> None:
    world = World()
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(10)
    (before,) = world.of()
    lose(world, "node-a")
    world.run(60)
    (lost,) = world.of()
    assert (lost.worker_id, lost.driver, lost.reason) == (
        before.worker_id,
        None,
        WorkerReason.NODE_LOST,
    )
    assert world.statuses["ep-1"].workers_running == 0
    world.arrive()
    assert world.requests["ep-1"].waiting  # nobody gives out slots of a worker that may be dead

    lose(world)
    world.run(5)
    (after,) = world.of()
    assert (after.worker_id, after.driver, after.reason) == (before.worker_id, "rt-1", None)
    assert len(world.starts) == 1
    assert not world.requests["ep-1"].waiting


def test_of_two_one_is_replaced_and_the_other_kept() -> None:
    world = World()
    world.join(make_node("node-a"))
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(10)
    before = {a.worker_id for a in world.of()}
    world.join(make_node("node-b", n_gpus=1))
    lose(world, "node-a")
    world.run(10)
    assert len(world.on("node-a")) == len(world.on("node-b")) == 1
    assert world.running("ep-1") >= 1

    lose(world)
    world.run(10)
    assert len(before & {a.worker_id for a in world.of()}) == 1
    assert len(world.starts) == 3
    assert world.running() == 2


def test_a_worker_that_is_wanted_no_more_is_not_awaited() -> None:
    for change in ({"paused": True}, {"revision": 2}):
        world = World()
        world.join(make_node("node-a", n_gpus=1))
        world.put(make_record(workers={"min": 1, "max": 1}))
        world.run(10)
        lose(world, "node-a")
        world.run(5)
        assert len(world.of()) == 1
        world.change(**change)
        world.run(5)
        assert world.of() == []


def test_a_draining_worker_of_a_lost_node_is_forgotten() -> None:
    world = World(service_s=100)
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(10)
    world.arrive()
    world.change(paused=True)
    world.run(2)
    assert [a.desired for a in world.of()] == [DesiredState.DRAINING]
    lose(world, "node-a")
    world.run(2)
    assert world.of() == []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    n_min=st.integers(1, 3),
    room=st.integers(0, 3),
    away_s=st.sampled_from([0.5, 5.0, 60.0]),
    start_s=st.sampled_from([0.0, 4.0]),
)
def test_after_a_return_exactly_what_is_wanted_runs(
    n_min: int, room: int, away_s: float, start_s: float
) -> None:
    """The world asserts `max` and that no GPU is held twice, also by workers nobody saw end."""
    world = World(start_s=start_s)
    world.join(make_node("node-a", n_gpus=3))
    world.put(make_record(workers={"min": n_min, "max": n_min}))
    world.run(10)
    world.join(make_node("node-b", n_gpus=room))
    lose(world, "node-a")
    world.run(away_s)
    lose(world)
    world.run(30)
    assert world.running() == len(world.of()) == n_min
    assert len(world.starts) == n_min + min(room, n_min)
