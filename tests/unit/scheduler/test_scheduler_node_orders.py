"""What operators' orders do: a cordoned node gets no worker, a draining one ends empty."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from penstock_common.states import (
    DesiredState,
    EndpointReason,
    EndpointState,
    NodeWish,
    WorkerReason,
)
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")

DRAINED = "penstock.node.drained"


@pytest.fixture
def world() -> World:
    """Two nodes with room for two workers each, and an endpoint with one on each."""
    made = World()
    made.join(make_node("node-a"), make_node("node-b"))
    made.put(make_record(workers={"min": 2, "max": 2}))
    made.run(10)
    assert (len(made.on("node-a")), len(made.on("node-b"))) == (1, 1)
    return made


def reason_of(world: World) -> tuple[EndpointReason | None, str | None]:
    status = world.statuses["ep-1"]
    return status.reason, status.message


def test_a_cordoned_node_keeps_its_workers_and_gets_no_other(world: World) -> None:
    before = {a.worker_id for a in world.of()}
    world.order("node-a", NodeWish.CORDONED)
    world.put(make_record(workers={"min": 4, "max": 4}))
    world.run(20)
    assert before < {a.worker_id for a in world.wanted()}
    assert (len(world.on("node-a")), len(world.on("node-b"))) == (1, 2)
    assert reason_of(world) == (
        EndpointReason.NO_CAPACITY,
        "no capacity: 1 node is cordoned, 1 lacks free GPUs",
    )

    world.order("node-a", None)
    world.run(20)
    assert (world.running(), reason_of(world)) == (4, (None, None))


def test_an_order_is_no_reason_where_the_node_could_not_take_the_worker_anyway() -> None:
    world = World()
    world.join(make_node("node-a", product="a100-80gb"))
    world.order("node-a", NodeWish.CORDONED)
    world.put(make_record(gpu={"products": ["h100-80gb"]}, workers={"min": 1}))
    world.tick()
    assert (reason_of(world)[1] or "").startswith("no capacity: 1 node has no h100-80gb; ")


def test_workers_of_a_draining_node_move_one_by_one_each_after_its_replacement_runs() -> None:
    world = World()
    world.join(make_node("node-a"))
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(10)
    world.join(make_node("node-b"))
    world.order("node-a", NodeWish.DRAINING)
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 2
    assert (len(world.on("node-a")), len(world.on("node-b"))) == (0, 2)
    reasons = {a.reason for plan in world.plans for a in plan.changes} - {None}
    assert reasons == {WorkerReason.NODE_DRAINED}
    assert world.told(DRAINED) == ["node-a"]
    assert world.statuses["ep-1"].state is EndpointState.SERVING


def test_the_endpoint_serves_and_is_not_updating_while_its_workers_move(world: World) -> None:
    world.order("node-a", NodeWish.DRAINING)
    seen = set()
    for _ in range(30):
        world.run(0.5)
        seen.add(world.statuses["ep-1"].state)
    assert seen == {EndpointState.SERVING}
    assert not world.on("node-a")


def test_without_capacity_elsewhere_it_serves_on_and_says_so_until_capacity_comes() -> None:
    world = World()
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(10)
    (worker,) = world.of()
    world.order("node-a", NodeWish.DRAINING)
    world.run(300, dt=5)
    assert world.wanted() == [worker]
    assert reason_of(world) == (EndpointReason.NO_CAPACITY, "no capacity: 1 node is draining")
    world.arrive()
    world.run(5)
    assert len(world.requests["ep-1"].waits) == 1
    assert world.told(DRAINED) == []

    world.join(make_node("node-b", n_gpus=1))
    world.run(30)
    assert [a.node_id for a in world.of()] == ["node-b"]
    assert reason_of(world) == (None, None)
    assert world.told(DRAINED) == ["node-a"]


def test_past_its_deadline_a_drain_empties_the_node_though_nothing_replaces() -> None:
    world = World(service_s=20)
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record(workers={"min": 1, "max": 1, "request_timeout_s": 60}))
    world.run(10)
    world.arrive()
    world.order("node-a", NodeWish.DRAINING, deadline_s=10)
    world.run(9)
    assert len(world.wanted()) == 1
    world.run(3)
    (worker,) = world.of()
    # What is in flight still ends: the world asserts that no busy worker is told to stop.
    assert (worker.desired, worker.reason) == (DesiredState.DRAINING, WorkerReason.NODE_DRAINED)
    world.run(20)
    assert world.of() == []
    assert world.told(DRAINED) == ["node-a"]


def test_uncordon_ends_a_drain_and_the_draining_worker_may_come_back() -> None:
    world = World(service_s=100)
    world.join(make_node("node-a", n_gpus=1), make_node("node-b", n_gpus=1))
    world.put(make_record(workers={"min": 1, "max": 2, "max_concurrency": 1}))
    world.run(10)
    (first,) = world.of()
    world.arrive()
    world.order(first.node_id, NodeWish.DRAINING)
    world.run(10)  # the replacement runs, the first one drains with a request in flight
    assert {a.desired for a in world.on(first.node_id)} == {DesiredState.DRAINING}
    world.order(first.node_id, None)
    world.arrive(2)
    world.run(2)
    assert first.worker_id in {a.worker_id for a in world.wanted()}
    assert world.told(DRAINED) == []


def test_a_worker_of_an_older_revision_on_a_draining_node_is_replaced_once() -> None:
    world = World()
    world.join(make_node("node-a"), make_node("node-b"))
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(10)
    (first,) = world.of()
    world.order(first.node_id, NodeWish.DRAINING)
    world.change(revision=2)
    world.run(30)
    (second,) = world.of()
    assert (second.revision, second.node_id != first.node_id) == (2, True)
    assert len(world.starts) == 2


def test_idle_workers_of_a_drain_that_waits_for_capacity_still_go() -> None:
    world = World()
    world.join(make_node("node-a", n_gpus=3))
    world.put(make_record(workers={"min": 1, "max": 3, "idle_timeout_s": 20, "max_concurrency": 1}))
    world.arrive(30)
    world.run(12)
    assert world.running() == 3
    world.order("node-a", NodeWish.DRAINING)
    world.run(120, dt=1)
    assert len(world.of()) == world.running() == 1


def test_an_idle_endpoint_leaves_a_draining_node_without_a_replacement() -> None:
    world = World()
    world.join(make_node("node-a"), make_node("node-b"))
    world.put(make_record(workers={"min": 0, "max": 2, "idle_timeout_s": 600}))
    world.arrive()
    world.run(15)
    (worker,) = world.of()
    world.order(worker.node_id, NodeWish.DRAINING)
    world.run(15)
    assert not world.on(worker.node_id)


def test_a_drained_node_is_told_of_once_also_by_the_next_leader(world: World) -> None:
    world.order("node-a", NodeWish.DRAINING)
    world.run(30)
    world.replace_leader()
    world.run(5)
    assert world.told(DRAINED) == ["node-a"]


def test_an_empty_node_is_drained_at_once() -> None:
    world = World()
    world.join(make_node("node-a"))
    world.tick()
    world.order("node-a", NodeWish.DRAINING)
    world.tick()
    assert world.told(DRAINED) == ["node-a"]
    assert not world.tick()


def test_a_node_whose_agent_restarts_gets_no_worker_and_keeps_those_it_has() -> None:
    world = World()
    node = make_node("node-a")
    world.join(node)
    world.put(make_record(workers={"min": 1, "max": 2}))
    world.run(10)
    before = world.of()
    world.join(node.model_copy(update={"restarting": True}))
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(10)
    assert world.of() == before
    assert reason_of(world)[1] == "no capacity: 1 node is restarting"
    world.join(node)
    world.run(10)
    assert world.running() == 2


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    n_min=st.integers(1, 3),
    extra=st.integers(0, 2),
    free=st.integers(1, 4),
    slots=st.integers(1, 3),
    service_s=st.sampled_from([0.5, 1.0, 4.0]),
    start_s=st.sampled_from([0.0, 2.0, 9.0]),
    busy=st.sampled_from([0.0, 0.3, 0.7]),
)
def test_a_drain_loses_no_request_and_keeps_min_running_and_ends_empty(
    n_min: int, extra: int, free: int, slots: int, service_s: float, start_s: float, busy: float
) -> None:
    """Where the other node has room; the world asserts `max`, and that no busy worker is stopped.

    `busy`: the load, of what `min` workers can take.
    """
    rate, credit = busy * n_min * slots / service_s, 0.0
    world = World(start_s=start_s, service_s=service_s)
    world.join(make_node("node-a", n_gpus=n_min + extra))
    world.put(
        make_record(
            workers={
                "min": n_min,
                "max": n_min + extra,
                "max_concurrency": slots,
                "idle_timeout_s": 30,
                "request_timeout_s": 60,
            }
        )
    )
    world.run(20)
    assert world.running() >= n_min
    world.join(make_node("node-b", n_gpus=n_min + extra + free))
    world.order("node-a", NodeWish.DRAINING)
    for n in range(220):
        credit += 0.5 * rate if n < 160 else 0.0
        world.arrive(int(credit))
        credit -= int(credit)
        world.run(0.5)
        assert world.running() >= n_min
    assert world.on("node-a") == []
    assert world.told(DRAINED) == ["node-a"]
    requests = world.requests["ep-1"]
    assert requests.completions == requests.arrivals
