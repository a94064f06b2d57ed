"""A revision that cannot start: when the scheduler says so, and what a rollback leaves running."""

import pytest

from penstock_common.messages import WorkerAssignment
from penstock_common.states import EndpointReason, EndpointState, Phase, WorkerReason, WorkerState
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def world() -> World:
    """Revision 1 has served for a while, and revision 2 crashes."""
    world = World(start_s=2, service_s=1)
    world.join(make_node("node-a", n_gpus=4))
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(20)
    world.fails = crash_second
    return world


def crash_second(assignment: WorkerAssignment) -> str | None:
    return "exited with exit code 1" if assignment.revision == 2 else None


def failed_revision(world: World) -> int | None:
    return world.statuses["ep-1"].failed_revision


def test_one_crash_proves_nothing_and_three_do(world: World) -> None:
    assert world.statuses["ep-1"].good_revision == 1
    world.change(revision=2)
    world.run(3)
    assert world.statuses["ep-1"].reason is EndpointReason.CRASH_BACKOFF
    assert failed_revision(world) is None
    world.run(15)
    assert failed_revision(world) == 2
    assert [a.revision for a in world.wanted() if a.worker_id in world.slots] == [1, 1]


@pytest.mark.parametrize(
    "reason", [WorkerReason.ENGINE_ERROR, WorkerReason.GPU_FAULT, WorkerReason.NO_SPACE]
)
def test_failures_of_nodes_prove_nothing_against_a_revision(
    world: World, reason: WorkerReason
) -> None:
    world.failure_reason = reason
    world.change(revision=2)
    world.run(20)
    assert world.statuses["ep-1"].reason is EndpointReason.CRASH_BACKOFF
    assert failed_revision(world) is None
    world.replace_leader()
    world.run(5)
    assert failed_revision(world) is None


def test_one_start_timeout_is_enough(world: World) -> None:
    world.start_s = 1000
    world.change(revision=2)
    world.run(2)
    (key,) = [k for k, (a, _) in world.assignments.items() if a.revision == 2]
    status = world.worker_statuses[key]
    assert Phase.HEALTHY not in status.phases
    world.worker_statuses[key] = status.model_copy(
        update={"state": WorkerState.FAILED, "reason": WorkerReason.START_TIMEOUT}
    )
    world.tick()
    assert failed_revision(world) == 2


def test_a_first_revision_has_nothing_to_go_back_to() -> None:
    world = World(start_s=1)
    world.join(make_node("node-a", n_gpus=4))
    world.fails = lambda _: "exited with exit code 1"
    world.put(make_record(workers={"min": 1}))
    world.run(60)
    assert world.statuses["ep-1"].good_revision is None
    assert failed_revision(world) is None
    assert world.statuses["ep-1"].state in (EndpointState.FAILED, EndpointState.DEPLOYING)


def test_a_new_leader_does_not_forget_that_it_failed(world: World) -> None:
    world.change(revision=2)
    world.run(20)
    world.replace_leader()
    world.tick()
    assert failed_revision(world) == 2


def test_after_a_rollback_the_old_workers_are_the_present_ones(world: World) -> None:
    before = {a.worker_id for a in world.wanted()}
    world.change(revision=2)
    world.run(20)
    world.change(
        revision=3, same_as=(1,), revision_cause="rolled_back", revision_why="revision 2 failed"
    )
    n_starts = len(world.starts)
    world.run(30)
    status = world.statuses["ep-1"]
    assert {a.worker_id for a in world.wanted()} == before
    assert len(world.starts) == n_starts
    assert (status.state, status.reason) == (EndpointState.SERVING, EndpointReason.ROLLED_BACK)
    assert status.message == "revision 2 failed"
    assert (status.good_revision, status.failed_revision) == (3, None)


def test_a_revision_that_starts_in_the_end_has_not_failed(world: World) -> None:
    world.change(revision=2)
    world.run(3)
    world.fails = lambda _: None
    world.run(40)
    assert [a.revision for a in world.wanted()] == [2, 2]
    assert (world.statuses["ep-1"].good_revision, failed_revision(world)) == (2, None)


def test_an_old_worker_is_drained_only_when_a_new_one_runs(world: World) -> None:
    world.fails = lambda _: None
    world.change(revision=2)
    for _ in range(40):
        world.run(0.5)
        running = world.running()
        assert running >= 2
        assert len(world.wanted()) <= 3
    assert [a.revision for a in world.wanted()] == [2, 2]
