"""Lives of workers, as the scheduler sees them: the agent on a real NATS with a fake runtime."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from penstock_common import connection, subjects
from penstock_common.messages import HealthProblem, WorkerStatus
from penstock_common.sealing import Sealer, new_key
from penstock_common.states import DesiredState, Phase, WorkerReason, WorkerState
from penstock_node_agent.runtime import (
    BoundExceededError,
    Exit,
    StartFailedError,
    StopFailedError,
)
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, agent_rig, endpoint_spec, said
from tests.support.cloud_events import read_message
from tests.support.nats_server import NatsServer

SERVE = endpoint_spec("serve")


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


@pytest.fixture
async def host() -> AsyncIterator[FakeHost]:
    made = FakeHost()
    yield made
    await made.close()


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

    await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED, within_s=5)
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


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (Exit(3), WorkerReason.EXITED),
        (Exit(0), WorkerReason.EXITED),
        (Exit(137, oom_killed=True), WorkerReason.OOM_KILLED),
    ],
)
async def test_a_worker_that_dies_says_how_and_stays_dead(
    rig: AgentRig, host: FakeHost, ended: Exit, reason: WorkerReason
) -> None:
    await rig.start(FakeRuntime(host))
    lines = [f"l{n}" for n in range(25)]
    worker = await rig.scheduler.assign(endpoint_spec(" ".join(["print", *lines])))
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    host.workers[worker.worker_id].end(ended.code or 0, oom_killed=ended.oom_killed)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, status.exit_code) == (reason, ended.code)
    assert status.log_tail == tuple(lines[-20:])
    await rig.scheduler.want(worker, DesiredState.RUNNING, driver="rt-2")
    await rig.scheduler.unassign(worker.worker_id)
    await rig.scheduler.until_gone(worker.worker_id)
    assert host.started == [worker.worker_id]


async def test_a_worker_beyond_its_bounds_is_drained_and_stopped(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(endpoint_spec("print last words"))
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    told = BoundExceededError(WorkerReason.DISK_EXCEEDED, "holds 101.0 GB")
    host.workers[worker.worker_id].exceed(told)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, said(status)) == (WorkerReason.DISK_EXCEEDED, "holds 101.0 GB")
    assert status.log_tail == ("last", "words")
    assert rig.scheduler.states(worker.worker_id)[-2:] == [
        WorkerState.DRAINING,
        WorkerState.FAILED,
    ]
    assert host.grace[worker.worker_id] == 2  # the endpoint's stop_grace_s
    assert host.workers == {}


async def test_a_worker_that_dies_while_starting_says_so(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(endpoint_spec("exit 7"))

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.exit_code, status.port) == (7, None)
    assert said(status) == "exited with exit code 7 before it was healthy"
    assert WorkerState.RUNNING not in rig.scheduler.states(worker.worker_id)


async def test_a_taken_port_is_answered_by_another_start(rig: AgentRig, host: FakeHost) -> None:
    host.early_exits.append(Exit(1, port_taken=True))
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert host.started == [worker.worker_id] * 2
    assert WorkerState.FAILED not in rig.scheduler.states(worker.worker_id)


async def test_a_port_that_is_always_taken_fails_the_worker(rig: AgentRig, host: FakeHost) -> None:
    host.early_exits.extend([Exit(1, port_taken=True)] * 5)
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert host.started == [worker.worker_id] * 3


async def test_a_start_that_fails_is_told_with_its_reason(rig: AgentRig, host: FakeHost) -> None:
    host.start_errors.append(StartFailedError(WorkerReason.IMAGE_NOT_FOUND, "no such image"))
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, said(status)) == (WorkerReason.IMAGE_NOT_FOUND, "no such image")
    assert host.workers == {}


async def test_a_worker_that_never_gets_healthy_fails_in_time(
    rig: AgentRig, host: FakeHost
) -> None:
    host.status = 503
    await rig.start(FakeRuntime(host))
    spec = endpoint_spec("serve", workers={"start_timeout_s": 0.3, "stop_grace_s": 1})

    worker = await rig.scheduler.assign(spec)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.START_TIMEOUT
    message = status.message or ""
    assert re.match(
        r"not healthy within 0\.3 s; the (last of \d+ probes|only probe): "
        r"GET /health on port \d+ answered 503; its log says why; .* or raise "
        r"workers\.start_timeout_s",
        message,
    ), message
    assert Phase.LISTENING in status.phases
    assert Phase.HEALTHY not in status.phases
    assert host.workers == {}


async def test_a_worker_that_starts_tells_why_it_is_not_healthy_and_seldom(
    rig: AgentRig, host: FakeHost
) -> None:
    host.status = 404
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)

    def told() -> HealthProblem | None:
        status = rig.scheduler.status(worker.worker_id)
        return status.health_problem if status else None

    await rig.scheduler.until(lambda: told() is not None)
    fake, problem = host.workers[worker.worker_id], told()
    assert problem is not None
    assert problem.message == f"GET /health on port {fake.port} answered 404"
    assert "health.path" in (problem.fix or "")
    fake.status = 503
    await rig.scheduler.until(lambda: "503" in getattr(told(), "message", ""))
    assert getattr(told(), "fix", "") is None, "it may only need longer"
    fake.status = 200
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    assert status.health_problem is None
    starting = [s for s in rig.scheduler.history if s.state is WorkerState.STARTING]
    assert len(starting) < 10 < fake.requests


async def test_a_worker_that_falls_silent_is_stopped_as_unhealthy(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    spec = endpoint_spec(
        "serve", health={"interval_s": 0.1, "timeout_s": 0.1, "failure_threshold": 2}
    )
    worker = await rig.scheduler.assign(spec)
    running = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    host.workers[worker.worker_id].status = 0

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.UNHEALTHY
    assert said(status) == (
        f"2 probes in a row failed; the last: GET /health on port {running.port} was not answered "
        "within 0.1 s"
    )
    assert rig.scheduler.states(worker.worker_id)[-2:] == [
        WorkerState.DRAINING,
        WorkerState.FAILED,
    ]


async def test_a_worker_is_ended_only_when_its_stop_is_proven(
    rig: AgentRig, host: FakeHost
) -> None:
    host.stop_errors.append(StopFailedError("a process survives SIGKILL"))
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.want(worker, DesiredState.STOPPED)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
    assert host.workers[worker.worker_id].exit is None
    await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)


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


async def test_secrets_without_their_key_fail_the_start(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host), sealer=Sealer(new_key()))
    sealed = Sealer(new_key()).seal({"TOKEN": "s3cret"})

    worker = await rig.scheduler.assign(endpoint_spec("serve", secrets=sealed))

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.START_FAILED
    assert status.message == "secret 'TOKEN' was sealed with another key"


async def test_what_this_node_cannot_run_is_said(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))
    spec = endpoint_spec("", image={"image": "only:1"})

    worker = await rig.scheduler.assign(spec)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.NOT_RUNNABLE
    assert status.message == "this node runs processes: set image.command"


async def test_a_graceful_end_stops_the_workers_and_leaves(rig: AgentRig, host: FakeHost) -> None:
    running = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert await rig.scheduler.node() is not None

    await running.stop(within_s=5)

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

    await running.stop(within_s=5)

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
    await running.stop(within_s=5)
    assert await rig.scheduler.node() is None

    running = await rig.start(FakeRuntime(host), stop_workers_on_exit=False, restart_grace_s=0)
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await running.stop(within_s=5)
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


async def test_lives_are_told_as_cloud_events(rig: AgentRig, host: FakeHost) -> None:
    told: list[connection.Received] = []
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
