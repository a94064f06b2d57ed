"""No capacity, and who gives way to whom."""

import pytest

from penstock_common.states import EndpointReason, EndpointState
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


def test_no_capacity_says_why_and_ends(world: World) -> None:
    world.put(make_record(gpu={"count": 3}, workers={"min": 1}))
    world.tick()
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.DEPLOYING, EndpointReason.NO_CAPACITY)
    assert status.message == (
        "no capacity: 2 nodes have fewer than 3 GPUs of one product; lower gpu.count"
    )
    world.join(make_node("node-c", n_gpus=4))
    world.run(6)
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.SERVING, None)


def test_before_the_view_has_settled_a_lack_proves_nothing() -> None:
    world = World()
    world.settled = False
    world.put(make_record(workers={"min": 1}))
    world.tick()
    assert world.statuses["ep-1"].reason is EndpointReason.STARTING
    world.settled = True
    world.tick()
    assert (world.statuses["ep-1"].message or "").startswith("no capacity: no nodes joined;")
    world.settled = False  # nats-server restarted: the reason stays until there is news
    world.tick()
    assert (world.statuses["ep-1"].message or "").startswith("no capacity: no nodes joined;")


def test_an_idle_worker_gives_way_to_an_endpoint_that_waits(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    world.put(make_record("ep-1", workers={"idle_timeout_s": 1000}))
    world.put(make_record("ep-2", workers={"idle_timeout_s": 1000}))
    world.arrive(1, "ep-1")
    world.run(30)
    world.arrive(1, "ep-2")
    world.run(8)
    assert world.running("ep-1") == 0
    assert world.requests["ep-2"].waits == [pytest.approx(5.5, abs=1.0)]


def two_endpoints_one_gpu(world: World, *, first: int, second: int) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    workers: dict[str, object] = {"idle_timeout_s": 1000}
    world.put(make_record("ep-1", workers=workers, placement={"priority": first}))
    world.put(make_record("ep-2", workers=workers, placement={"priority": second}))


def test_a_worker_stays_a_while_before_it_gives_way_to_an_equal(world: World) -> None:
    two_endpoints_one_gpu(world, first=50, second=50)
    world.arrive(1, "ep-1")
    world.run(8)  # running since 5.5
    world.arrive(1, "ep-2")
    world.run(12)
    assert world.running("ep-1") == 1
    world.run(8)
    assert world.running("ep-2") == 1


def test_it_gives_way_at_once_to_a_higher_priority_and_never_to_a_lower_one(world: World) -> None:
    two_endpoints_one_gpu(world, first=50, second=60)
    world.arrive(1, "ep-1")
    world.run(8)
    world.arrive(1, "ep-2")
    world.run(7)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)
    world.arrive(1, "ep-1")
    world.run(60)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)
    assert world.statuses["ep-1"].reason is EndpointReason.NO_CAPACITY


def test_a_place_that_comes_free_is_no_lack_of_capacity(world: World) -> None:
    two_endpoints_one_gpu(world, first=50, second=60)
    world.arrive(1, "ep-1")
    world.run(8)
    told: list[EndpointReason | None] = []
    world.arrive(1, "ep-2")
    while not world.running("ep-2"):
        world.run(0.5)
        told.append(world.statuses["ep-2"].reason)
    begins = told.index(EndpointReason.STARTING)
    assert EndpointReason.NO_CAPACITY not in told[begins:]


def test_the_last_gpu_goes_to_the_higher_priority_although_the_other_waits_longer(
    world: World,
) -> None:
    two_endpoints_one_gpu(world, first=10, second=90)
    nodes, world.nodes = world.nodes, {}
    world.arrive(1, "ep-1")
    world.run(5)
    world.arrive(1, "ep-2")
    world.nodes = nodes
    world.run(6)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)


def test_a_worker_within_min_gives_way_to_nobody(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    world.put(make_record("ep-1", workers={"min": 1}))
    world.run(10)
    world.put(make_record("ep-2"))
    world.arrive(1, "ep-2")
    world.run(30)
    assert world.running("ep-1") == 1
    assert world.statuses["ep-2"].reason is EndpointReason.NO_CAPACITY
