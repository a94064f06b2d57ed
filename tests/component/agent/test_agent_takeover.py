"""An agent that ends, and the one that comes after it."""

from penstock_common.states import DesiredState, WorkerReason, WorkerState
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, endpoint_spec

SERVE = endpoint_spec("serve")


async def test_a_graceful_end_stops_the_workers_and_leaves(rig: AgentRig, host: FakeHost) -> None:
    running = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert await rig.scheduler.node() is not None

    await running.stop()

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert status.reason is WorkerReason.AGENT_STOPPED
    assert host.workers == {}
    assert await rig.scheduler.node() is None


async def test_a_graceful_end_may_leave_the_workers_running(rig: AgentRig, host: FakeHost) -> None:
    running = await rig.start(FakeRuntime(host), stop_workers_on_exit=False)
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    before = await rig.scheduler.node()
    assert before is not None
    assert not before.restarting

    await running.stop()

    assert host.workers[worker.worker_id].exit is None
    status = rig.scheduler.status(worker.worker_id)
    assert status is not None
    assert status.state is WorkerState.RUNNING
    node = await rig.scheduler.node()
    assert node is not None
    assert node.restarting
    assert node.gpus == before.gpus

    await rig.start(FakeRuntime(host))
    node = await rig.scheduler.node()
    assert node is not None
    assert not node.restarting
    assert host.started == [worker.worker_id]


async def test_an_agent_without_workers_or_without_a_grace_is_not_awaited_back(
    rig: AgentRig, host: FakeHost
) -> None:
    running = await rig.start(FakeRuntime(host), stop_workers_on_exit=False)
    await running.stop()
    assert await rig.scheduler.node() is None

    running = await rig.start(FakeRuntime(host), stop_workers_on_exit=False, restart_grace_s=0)
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await running.stop()
    assert await rig.scheduler.node() is None
    assert host.workers[worker.worker_id].exit is None


async def test_a_new_agent_takes_running_workers_over(rig: AgentRig, host: FakeHost) -> None:
    first = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    before = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await first.kill()

    await rig.start(FakeRuntime(host))
    await rig.scheduler.want(worker, DesiredState.STOPPED)

    after = await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert host.started == [worker.worker_id]
    assert after.phases == before.phases
    assert rig.scheduler.states(worker.worker_id).count(WorkerState.RUNNING) == 1


async def test_a_new_agent_reports_what_ended_meanwhile(rig: AgentRig, host: FakeHost) -> None:
    first = await rig.start(FakeRuntime(host))
    ended, vanished, orphan = [await rig.scheduler.assign(SERVE) for _ in range(3)]
    for worker in (ended, vanished, orphan):
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await first.kill()
    host.workers[ended.worker_id].end(9)
    host.workers.pop(vanished.worker_id).end(9)
    await rig.scheduler.unassign(orphan.worker_id)

    await rig.start(FakeRuntime(host))

    status = await rig.scheduler.until_state(ended.worker_id, WorkerState.FAILED)
    assert (status.reason, status.exit_code) == (WorkerReason.EXITED, 9)
    status = await rig.scheduler.until_state(vanished.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.EXITED
    assert "exit code is not known" in (status.message or "")
    await rig.scheduler.until_gone(orphan.worker_id)
    assert len(host.started) == 3
    assert host.workers == {}


async def test_a_status_that_belongs_to_no_worker_is_cleaned_away(
    rig: AgentRig, host: FakeHost
) -> None:
    first = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(endpoint_spec("exit 1"))
    await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    await first.kill()
    await rig.scheduler.unassign(worker.worker_id)

    await rig.start(FakeRuntime(host))

    await rig.scheduler.until_gone(worker.worker_id)
