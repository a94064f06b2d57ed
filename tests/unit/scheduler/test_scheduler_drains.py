"""Drains whose driver dies: what it had lent to other routers is still in flight."""

import pytest

from penstock_common.states import DesiredState
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def world() -> World:
    """A worker with a request of another router, whose driver dies while it drains."""
    world = World(start_s=1.0, service_s=30.0)
    world.have_routers({"rt-1", "rt-2"}, set())
    world.join(make_node())
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(5)
    world.arrive(1)
    world.run(1)
    world.change(paused=True)
    world.tick()
    (assignment,) = world.of()
    assert (assignment.driver, assignment.desired) == ("rt-1", DesiredState.DRAINING)
    return world


def test_another_router_claims_the_worker_before_it_is_stopped(world: World) -> None:
    world.have_routers({"rt-2"}, {"rt-1"})
    world.settle()
    (assignment,) = world.of()
    assert (assignment.driver, assignment.driver_epoch) == ("rt-2", 2)
    assert assignment.desired is DesiredState.DRAINING
    world.run(10)
    assert [a.desired for a in world.of()] == [DesiredState.DRAINING]
    world.run(30)
    assert world.of() == []


def test_without_any_router_nothing_is_in_flight(world: World) -> None:
    world.have_routers(set(), {"rt-1", "rt-2"})
    world.settle()
    assert world.of() == []
