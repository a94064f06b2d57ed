"""What an order to stop a worker does: it goes, another comes if there is need, nothing has failed."""

import pytest

from penstock_common.states import DesiredState, EndpointState, NodeWish, WorkerReason
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


def a_world(*, service_s: float = 1.0, n_gpus: int = 4, **workers: object) -> World:
    """An endpoint whose least workers run."""
    world = World(service_s=service_s)
    world.join(make_node("node-a", n_gpus=n_gpus))
    world.put(make_record(workers={"min": 1, "max": 2, **workers}))
    world.run(10)
    return world


def test_a_stopped_worker_is_replaced_where_the_least_demands_it() -> None:
    world = a_world()
    (first,) = world.of()
    world.stop(first.worker_id)
    world.tick()
    by_id = {a.worker_id: a for a in world.of()}
    # Nothing is in flight: it drains, and another one starts in the very same plan.
    assert by_id[first.worker_id].reason is WorkerReason.STOP_ORDERED
    assert len(by_id) == 2
    world.run(10)
    (second,) = world.of()
    assert (second.worker_id != first.worker_id, world.running()) == (True, 1)


def test_a_stopped_worker_that_nobody_needs_is_not_replaced() -> None:
    world = a_world(min=0, idle_timeout_s=600)
    world.arrive()
    world.run(10)
    (first,) = world.of()
    world.stop(first.worker_id)
    world.run(30)
    assert (world.of(), len(world.starts)) == ([], 1)
    assert world.histories["ep-1"].decisions[0].why == "1 → 0: ordered to stop"


def test_its_requests_in_flight_finish_and_it_gets_no_other() -> None:
    world = a_world(service_s=20, max_concurrency=1, max=1)
    (first,) = world.of()
    world.arrive()
    world.run(1)
    assert world.in_flight(first.worker_id) == 1
    world.stop(first.worker_id)
    world.run(8)
    world.arrive()  # goes to the other one, which runs by now
    world.run(1)
    desired = {a.worker_id: a.desired for a in world.of()}
    # The world asserts that no busy worker is told to stop.
    assert desired.pop(first.worker_id) is DesiredState.DRAINING
    (second,) = desired
    assert (world.in_flight(first.worker_id), world.in_flight(second)) == (1, 1)
    world.run(15)
    assert [a.worker_id for a in world.of()] == [second]
    world.run(10)
    assert len(world.requests["ep-1"].waits) == 2


@pytest.mark.parametrize("deadline_s", [0.0, 5.0])
def test_past_its_deadline_it_is_stopped_with_what_is_in_flight(deadline_s: float) -> None:
    world = a_world(service_s=1000)
    (first,) = world.of()
    world.arrive()
    world.run(1)
    world.stop(first.worker_id, deadline_s=deadline_s)
    if deadline_s:
        world.run(deadline_s - 1)
        assert first.worker_id in {a.worker_id for a in world.of()}
    world.run(3)
    assert first.worker_id not in {a.worker_id for a in world.of()}


def test_a_worker_that_drains_already_keeps_its_reason_and_does_not_come_back() -> None:
    world = a_world(service_s=100, min=0, max=1, idle_timeout_s=5, max_concurrency=2)
    world.arrive()
    world.run(8)
    (first,) = world.of()
    world.change(paused=True)
    world.run(1)
    world.stop(first.worker_id)
    world.change(paused=False)
    world.arrive(5)
    world.run(5)
    # The world asserts that none comes back against an order.
    (shown,) = [a for a in world.of() if a.worker_id == first.worker_id]
    assert (shown.desired, shown.reason) == (DesiredState.DRAINING, WorkerReason.ENDPOINT_PAUSED)


def test_with_its_gpu_alone_the_next_worker_starts_once_it_has_left() -> None:
    world = a_world(n_gpus=1)
    (first,) = world.of()
    world.stop(first.worker_id)
    world.run(20)
    (second,) = world.of()
    assert (second.worker_id != first.worker_id, second.gpus) == (True, first.gpus)
    assert world.statuses["ep-1"].reason is None


def test_a_stopped_worker_is_no_failed_start() -> None:
    world = a_world(min=1, max=1)
    for _ in range(5):
        # Each is stopped while it starts, or just after.
        (worker,) = world.wanted()
        world.stop(worker.worker_id)
        world.run(4)
    world.run(10)
    status = world.statuses["ep-1"]
    assert (status.state, status.reason, world.running()) == (EndpointState.SERVING, None, 1)
    assert status.failed_revision is None


def test_a_stopped_worker_of_a_lost_node_is_not_awaited_back() -> None:
    world = a_world(n_gpus=1, max=1)
    (first,) = world.of()
    world.lost_nodes = frozenset({"node-a"})
    world.run(5)
    assert [a.worker_id for a in world.of()] == [first.worker_id]  # it may come back
    world.stop(first.worker_id)
    world.run(5)
    assert world.of() == []
    world.lost_nodes = frozenset()
    world.run(20)
    (second,) = world.of()
    assert (second.worker_id != first.worker_id, world.running()) == (True, 1)


def test_of_a_canary_the_side_that_lost_a_worker_gets_another() -> None:
    world = a_world(min=2, max=3, idle_timeout_s=5)
    world.begin_canary(percent=50)
    world.run(60)
    stable, canary = world.sides()
    assert (len(stable), len(canary)) == (1, 1)
    world.stop(canary[0].worker_id)
    world.run(30)
    after_stable, after_canary = world.sides()
    assert after_stable == stable
    assert len(after_canary) == 1
    assert after_canary[0].worker_id != canary[0].worker_id


def test_a_stop_on_a_node_that_drains_waits_for_nobody() -> None:
    world = a_world(n_gpus=1)
    (first,) = world.of()
    world.order("node-a", NodeWish.DRAINING)
    world.run(5)
    assert [a.worker_id for a in world.wanted()] == [first.worker_id]  # nowhere else to go
    world.stop(first.worker_id)
    world.run(5)
    assert world.of() == []


def test_the_next_leader_goes_on_with_it() -> None:
    world = a_world(service_s=20)
    (first,) = world.of()
    world.arrive()
    world.run(1)
    world.stop(first.worker_id)
    world.run(1)
    world.replace_leader()
    world.run(40)
    assert first.worker_id not in {a.worker_id for a in world.of()}
    assert world.running() == 1
