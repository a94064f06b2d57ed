"""What an endpoint's status says of a worker that starts and is not healthy."""

import pytest

from penstock_common.messages import EndpointStatus, HealthProblem
from penstock_common.states import EndpointReason, EndpointState, WorkerState
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

NO_PATH = HealthProblem(
    message="GET /health on port 8000 answered 404", fix="set health.path", since=EPOCH
)
LOADS = HealthProblem(message="nothing listens on port 8000", since=EPOCH)


@pytest.fixture
def world() -> World:
    made = World(start_s=600)
    made.join(make_node("node-a", n_gpus=4))
    return made


def say(world: World, problem: HealthProblem) -> EndpointStatus:
    """The nodes say this of all workers; gives what the endpoint's status says then."""
    for key, status in world.worker_statuses.items():
        world.worker_statuses[key] = status.model_copy(update={"health_problem": problem})
    world.settle()
    return world.statuses["ep-1"]


def test_what_keeps_the_first_worker_from_being_healthy_is_told(world: World) -> None:
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(2)
    first = min(world.worker_statuses.values(), key=lambda status: status.worker_id)

    status = say(world, NO_PATH)

    assert (status.state, status.reason) == (EndpointState.DEPLOYING, EndpointReason.STARTING)
    assert status.message == (
        f"worker {first.worker_id} on node-a is not healthy yet: "
        "GET /health on port 8000 answered 404; set health.path"
    )
    assert (say(world, LOADS).message or "").endswith(
        "not healthy yet: nothing listens on port 8000"
    )


def test_an_endpoint_at_zero_tells_why_the_worker_of_a_request_does_not_come(world: World) -> None:
    world.put(make_record())
    world.settle()
    world.arrive(1)
    world.run(2)
    assert world.statuses["ep-1"].reason is None

    status = say(world, NO_PATH)

    assert (status.state, status.reason) == (EndpointState.SERVING, EndpointReason.STARTING)
    assert "answered 404" in (status.message or "")


def test_nothing_is_told_where_workers_run_or_run_at_last(world: World) -> None:
    world.start_s = 1
    world.put(make_record(workers={"min": 1, "max": 4}))
    world.run(5)
    world.start_s = 600
    world.arrive(50)
    world.run(2)
    states = {status.state for status in world.worker_statuses.values()}
    assert states == {WorkerState.RUNNING, WorkerState.STARTING}

    status = say(world, NO_PATH)

    assert (status.state, status.reason, status.message) == (EndpointState.SERVING, None, None)


def test_a_new_revision_that_does_not_come_up_is_told_of_while_the_old_one_serves(
    world: World,
) -> None:
    world.start_s = 1
    world.put(make_record(workers={"min": 1}))
    world.run(15)
    world.start_s = 600
    world.put(make_record(workers={"min": 1}, revision=2))
    world.run(2)

    status = say(world, NO_PATH)

    assert (status.state, status.reason) == (EndpointState.UPDATING, EndpointReason.STARTING)
    assert "answered 404" in (status.message or "")


def test_a_worker_that_does_not_come_up_is_told_of_though_another_has_no_place(
    world: World,
) -> None:
    world.put(make_record(gpu={"count": 4}, workers={"min": 2, "max": 2}))
    world.run(2)
    assert world.statuses["ep-1"].message == "no capacity: 1 node lacks free GPUs"

    status = say(world, NO_PATH)

    assert status.reason is EndpointReason.NO_CAPACITY
    message = status.message or ""
    assert message.startswith("no capacity: 1 node lacks free GPUs; worker ")
    assert "answered 404" in message


def test_the_same_told_again_is_not_written_again(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(2)
    say(world, NO_PATH)
    told = world.statuses["ep-1"]

    world.run(60)

    assert world.statuses["ep-1"] is told
