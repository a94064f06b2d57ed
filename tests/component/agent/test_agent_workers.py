"""Lives of workers, as the scheduler sees them: the agent on a real NATS with a fake runtime."""

import asyncio
from typing import TYPE_CHECKING

from penstock_common import subjects
from penstock_common.messages import WorkerStatus
from penstock_common.sealing import Sealer, new_key
from penstock_common.states import DesiredState, Phase, WorkerReason, WorkerState
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, endpoint_spec
from tests.support.cloud_events import read_message

if TYPE_CHECKING:
    from penstock_common.nats.connection import Received

SERVE = endpoint_spec("serve")


async def test_an_assigned_worker_runs_and_says_where(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert (status.host, status.port) == ("127.0.0.1", host.workers[worker.worker_id].port)
    assert list(status.phases) == [phase for phase in Phase if phase in status.phases]
    assert set(status.phases) == set(Phase)
    assert sorted(status.phases.values()) == list(status.phases.values())
    assert rig.scheduler.states(worker.worker_id)[-2:] == [
        WorkerState.STARTING,
        WorkerState.RUNNING,
    ]


async def test_a_pull_is_shown(rig: AgentRig, host: FakeHost) -> None:
    host.gate.clear()
    await rig.start(FakeRuntime(host, "docker"))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.PULLING)

    host.gate.set()

    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)


async def test_a_stopped_assignment_stops_the_worker_with_its_reason(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.want(worker, DesiredState.STOPPED, reason=WorkerReason.IDLE)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert (status.reason, status.exit_code) == (WorkerReason.IDLE, 143)
    assert host.grace[worker.worker_id] == SERVE.workers.stop_grace_s
    await rig.scheduler.unassign(worker.worker_id)
    await rig.scheduler.until_gone(worker.worker_id)
    assert worker.worker_id not in host.workers


async def test_a_draining_worker_runs_on_and_may_come_back(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.want(worker, DesiredState.DRAINING, reason=WorkerReason.SCALED_DOWN)
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
    assert status.reason is WorkerReason.SCALED_DOWN
    assert status.port == host.workers[worker.worker_id].port
    await rig.scheduler.want(worker, DesiredState.RUNNING)
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    assert status.reason is None
    assert host.started == [worker.worker_id]


async def test_an_unknown_worker_that_is_to_be_stopped_is_stopped_at_once(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(
        SERVE, desired=DesiredState.STOPPED, reason=WorkerReason.UPDATED
    )

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert status.reason is WorkerReason.UPDATED
    assert host.started == []


async def test_a_stop_during_the_pull_does_not_wait_for_it(rig: AgentRig, host: FakeHost) -> None:
    host.gate.clear()
    await rig.start(FakeRuntime(host, "docker"))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.PULLING)

    await rig.scheduler.want(worker, DesiredState.STOPPED)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert host.started == []


async def test_a_worker_whose_assignment_goes_is_stopped_and_forgotten(
    rig: AgentRig, host: FakeHost
) -> None:
    running = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.unassign(worker.worker_id)

    await rig.scheduler.until_gone(worker.worker_id)
    assert host.workers == {}
    assert running.agent.keepers == 0


async def test_a_record_of_a_deposed_leader_is_ignored(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE, fencing_token=5)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.want(worker, DesiredState.STOPPED, fencing_token=4)
    await rig.scheduler.want(worker, DesiredState.STOPPED, fencing_token=3)
    other = await rig.scheduler.assign(SERVE)  # what was written before it has been seen
    await rig.scheduler.until_state(other.worker_id, WorkerState.RUNNING)

    status = rig.scheduler.status(worker.worker_id)
    assert status is not None
    assert status.state is WorkerState.RUNNING


async def test_secrets_are_opened_for_the_worker_alone(rig: AgentRig, host: FakeHost) -> None:
    sealer = Sealer(new_key())
    await rig.start(FakeRuntime(host), sealer=sealer)
    spec = endpoint_spec("serve", env={"A": "1"}, secrets=sealer.seal({"TOKEN": "s3cret"}))

    worker = await rig.scheduler.assign(spec)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert host.workers[worker.worker_id].order.env == {"A": "1", "TOKEN": "s3cret"}
    assert "s3cret" not in status.model_dump_json()


async def test_lives_are_told_as_cloud_events(rig: AgentRig, host: FakeHost) -> None:
    told: list[Received] = []
    bus = await rig.bus("listener")
    await bus.subscribe(subjects.EVENTS_ALL, told.append)
    running = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await rig.scheduler.want(worker, DesiredState.STOPPED)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)

    await running.stop()
    await rig.scheduler.until(lambda: len(told) >= 5)

    assert [read_message(event)[0].name for event in told] == [
        "penstock.node.joined",
        "penstock.worker.running",
        "penstock.worker.draining",
        "penstock.worker.stopped",
        "penstock.node.left",
    ]
    assert told[1].subject == subjects.worker_event(worker.endpoint_id, worker.worker_id, "running")
    assert told[1].headers["ce-source"] == "/penstock/node-agent/node-test"
    assert WorkerStatus.decode(told[1].data).state is WorkerState.RUNNING
    assert len({event.headers["ce-id"] for event in told}) == 5


async def test_many_workers_start_side_by_side(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))

    workers = await asyncio.gather(*[rig.scheduler.assign(SERVE) for _ in range(30)])

    for worker in workers:
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
