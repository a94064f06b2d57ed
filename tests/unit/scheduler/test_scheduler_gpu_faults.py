"""A GPU goes bad under a worker."""

import pytest

from penstock_common.states import DesiredState, EndpointReason, GpuReason, WorkerReason
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")

BAD = [
    GpuReason.RESET_REQUIRED,
    GpuReason.XID,
    GpuReason.MEMORY_ERRORS,
    GpuReason.REPAIR_PENDING,
    GpuReason.REPAIR_FAILED,
]


def running_world(*, n_gpus: int = 2, workers: int = 1, service_s: float = 1.0) -> World:
    """One endpoint that always wants so many workers, all running on GPUs 0, 1 … of node-a."""
    world = World(start_s=5, service_s=service_s)
    world.join(make_node("node-a", n_gpus=n_gpus))
    world.put(make_record(gpu={"count": 1}, workers={"min": workers, "max": workers}))
    world.settle()
    world.run(8)
    assert world.running() == workers
    return world


def break_gpu(world: World, number: int, reason: GpuReason) -> None:
    n_gpus = len(world.nodes["node-a"].gpus)
    world.join(make_node("node-a", n_gpus=n_gpus, faults={number: reason}))


def gpu_of(world: World, number: int = 0) -> int:
    """Number of the GPU that the endpoint's worker holds."""
    return int(world.of()[number].gpus[0].rpartition("-")[2])


@pytest.mark.parametrize("reason", BAD)
def test_another_worker_takes_over_before_the_one_on_a_bad_gpu_goes(reason: GpuReason) -> None:
    world = running_world()
    (before,) = world.of()
    break_gpu(world, gpu_of(world), reason)

    plan = world.tick()
    assert len(plan.creates) == 1
    assert not plan.changes
    while len(world.of()) == 2:
        assert world.running() >= 1
        for assignment in world.of():
            if assignment.worker_id == before.worker_id and (
                assignment.desired is not DesiredState.RUNNING
            ):
                assert assignment.reason is WorkerReason.GPU_UNHEALTHY
                assert world.running() >= 1
        world.run(0.5)
    (after,) = world.of()
    assert after.worker_id != before.worker_id
    assert after.gpus != before.gpus
    assert world.running() == 1


def test_a_busy_worker_on_a_bad_gpu_finishes_what_it_has_in_flight() -> None:
    world = running_world(service_s=30)
    world.arrive(1)
    break_gpu(world, gpu_of(world), GpuReason.XID)
    (before,) = world.of()
    world.run(20)
    assert world.running() >= 1
    (draining,) = [a for a in world.of() if a.worker_id == before.worker_id]
    assert draining.desired is DesiredState.DRAINING
    world.run(30)
    assert world.requests["ep-1"].completions == 1
    assert len(world.of()) == 1


def test_without_another_gpu_the_worker_on_a_bad_one_goes_on() -> None:
    world = running_world(n_gpus=1)
    (before,) = world.of()
    break_gpu(world, 0, GpuReason.MEMORY_ERRORS)

    world.run(60)
    assert [a.worker_id for a in world.wanted()] == [before.worker_id]
    assert world.running() == 1

    world.join(make_node("node-b", n_gpus=1))
    world.run(15)
    (after,) = world.of()
    assert after.node_id == "node-b"
    assert world.running() == 1


def test_a_worker_whose_gpu_is_lost_is_stopped_at_once_and_replaced_at_once() -> None:
    world = running_world(service_s=100)
    world.arrive(1)
    (before,) = world.of()
    assert world.in_flight(before.worker_id) == 1
    break_gpu(world, gpu_of(world), GpuReason.LOST)

    plan = world.tick()

    (stopped,) = plan.changes
    assert (stopped.worker_id, stopped.desired) == (before.worker_id, DesiredState.STOPPED)
    assert stopped.reason is WorkerReason.GPU_LOST
    assert len(plan.creates) == 1
    assert plan.creates[0].gpus != before.gpus
    world.run(10)
    assert world.running() == len(world.of()) == 1


def test_a_draining_worker_whose_gpu_is_lost_is_stopped_as_well() -> None:
    world = running_world(service_s=100)
    world.arrive(1)
    world.change(paused=True)
    world.settle()
    assert [a.desired for a in world.of()] == [DesiredState.DRAINING]
    break_gpu(world, gpu_of(world), GpuReason.LOST)
    world.settle()
    assert world.of() == []


def test_a_driver_that_hangs_moves_no_worker_and_its_gpus_get_none() -> None:
    world = running_world(n_gpus=3)
    (before,) = world.of()
    silent = {gpu_of(world): GpuReason.NOT_ANSWERING, 2: GpuReason.NOT_ANSWERING}
    world.join(make_node("node-a", n_gpus=3, faults=silent))
    world.put(make_record("ep-2", gpu={"count": 2}, workers={"min": 1, "max": 1}))
    world.run(30)
    assert [a.worker_id for a in world.of()] == [before.worker_id]
    assert world.of("ep-2") == []
    assert world.statuses["ep-2"].reason is EndpointReason.NO_CAPACITY

    world.join(make_node("node-a", n_gpus=3))
    world.run(10)
    assert [a.worker_id for a in world.of()] == [before.worker_id]
    assert world.running("ep-2") == 1


@pytest.mark.parametrize("bad", [True, False])
def test_a_worker_that_dies_on_a_bad_gpu_has_not_failed(bad: bool) -> None:
    world = running_world()
    world.kill(world.of()[0].worker_id)
    if bad:
        break_gpu(world, gpu_of(world), GpuReason.XID)
    world.settle()
    told = world.statuses["ep-1"].reason
    assert (told is EndpointReason.CRASH_BACKOFF) == (not bad)
    assert len(world.of()) == (1 if bad else 0)


def test_a_gpu_that_recovers_while_its_worker_is_replaced_leaves_one_worker() -> None:
    world = running_world()
    break_gpu(world, gpu_of(world), GpuReason.REPAIR_PENDING)
    world.tick()
    assert len(world.wanted()) == 2
    world.join(make_node("node-a"))
    world.run(20)
    assert world.running() == len(world.of()) == 1


def test_an_idle_worker_on_a_bad_gpu_does_not_come_back() -> None:
    world = World(start_s=0, service_s=1)
    world.join(make_node("node-a"))
    world.put(make_record(gpu={"count": 1}, workers={"min": 0, "max": 1, "idle_timeout_s": 3}))
    world.arrive(1)
    world.settle()
    while world.wanted():
        world.step(0.5)
        world.tick()
    (draining,) = world.of()
    assert draining.desired is DesiredState.DRAINING
    break_gpu(world, gpu_of(world), GpuReason.XID)
    world.arrive(1)
    assert len(world.tick().creates) == 1
    world.run(3)
    assert world.requests["ep-1"].waiting == []
    assert draining.worker_id not in {a.worker_id for a in world.of()}


def test_two_of_four_gpus_go_bad_and_both_their_workers_are_replaced() -> None:
    world = running_world(n_gpus=4, workers=2)
    faults = {gpu_of(world, n): GpuReason.XID for n in range(2)}
    world.join(make_node("node-a", n_gpus=4, faults=faults))
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 2
    assert not {gpu_of(world, n) for n in range(2)} & set(faults)
    assert len(world.of()) == 2
