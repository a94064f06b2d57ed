"""What a worker has used, whoever led when it ended."""

from datetime import timedelta

import pytest

from penstock_common.states import WorkerState
from penstock_scheduler.decision.reconcile import reconcile
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

both_ways = pytest.mark.usefixtures("both_ways")


def a_world() -> World:
    world = World(start_s=2.0)
    world.join(make_node("node-a", n_gpus=8))
    one: dict[str, object] = {"min": 1, "max": 1}
    world.put(make_record(gpu={"count": 1}, workers=one, owner="key-1"))
    return world


def test_it_lasts_from_the_assignment_to_the_nodes_word_over_a_change_of_leaders() -> None:
    world = a_world()
    world.tick()
    (assignment,) = world.of()
    world.run(10)
    world.change(paused=True)
    (status,) = world.worker_statuses.values()
    while status.state is not WorkerState.STOPPED:
        world.tick()  # until it is told to stop, and its node says that it is gone
        (status,) = world.worker_statuses.values()
    world.step(7)  # nobody leads meanwhile
    world.replace_leader()
    world.settle()
    usage = world.usages[assignment.worker_id]
    assert usage.began_at == assignment.assigned_at == EPOCH
    assert usage.ended_at == status.updated_at
    assert (usage.owner, usage.gpu_product, usage.gpus) == ("key-1", "rtx-4090-24gb", 1)


@both_ways
def test_an_end_that_a_leader_judged_is_the_same_for_the_next_one() -> None:
    world = a_world()
    world.run(10)
    ((key, (assignment, _)),) = world.assignments.items()
    world.join(make_node("node-b"))  # where it is replaced
    world.lost_nodes = frozenset({"node-a"})
    plan, _ = reconcile(world.snapshot(), world.memory, new_id=lambda: "wk-x", token=1)
    assert plan.deletes == (key,)
    mark = plan.marks[key]
    assert mark.ended_at == plan.usages[key].ended_at == world.utc
    # The leader dies when no more than the mark is written, and the node comes back.
    world.assignments[key] = (mark, 1000)
    world.lost_nodes = frozenset()
    world.step(100)
    world.replace_leader()
    world.settle()
    assert world.usages[assignment.worker_id].ended_at == mark.ended_at
    assert assignment.worker_id not in {a.worker_id for a in world.of()}
    (replacement,) = world.of()
    assert set(replacement.gpus).isdisjoint(assignment.gpus), "its process still holds its GPU"


@both_ways
@pytest.mark.parametrize("skew_s", [-1000.0, 1000.0])
def test_a_node_whose_clock_is_wrong_gives_no_use_before_the_beginning_nor_in_the_future(
    skew_s: float,
) -> None:
    world = a_world()
    world.run(10)
    (assignment,) = world.of()
    world.kill(assignment.worker_id)
    ((key, status),) = world.worker_statuses.items()
    wrong = status.updated_at + timedelta(seconds=skew_s)
    world.worker_statuses[key] = status.model_copy(update={"updated_at": wrong})
    world.now += 2
    world.tick()
    usage = world.usages[assignment.worker_id]
    assert usage.ended_at == (usage.began_at if skew_s < 0 else world.utc)
