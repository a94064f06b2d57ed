"""Workers that end by themselves, fail to start or fall silent: what becomes of them, and what is told."""

import re

import pytest

from penstock_common.messages import HealthProblem
from penstock_common.sealing import Sealer, new_key
from penstock_common.states import DesiredState, Phase, WorkerReason, WorkerState
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    Exit,
    StartFailedError,
    StopFailedError,
)
from tests.fakes.clock import LeapingClock
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, endpoint_spec, said

SERVE = endpoint_spec("serve")


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
    clock = LeapingClock()
    await rig.start(FakeRuntime(host), clock=clock)

    worker = await rig.scheduler.assign(SERVE)

    def is_probed() -> bool:
        return worker.worker_id in host.workers and host.workers[worker.worker_id].requests > 1

    await rig.scheduler.until(is_probed)
    clock.leap(SERVE.workers.start_timeout_s)
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.START_TIMEOUT
    message = status.message or ""
    assert re.match(
        r"not healthy within 120 s; the (last of \d+ probes|only probe): "
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
    await rig.scheduler.until(lambda: fake.requests > 10)
    fake.status = 200
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    assert status.health_problem is None
    starting = [s for s in rig.scheduler.history if s.state is WorkerState.STARTING]
    assert len(starting) < 10


async def test_a_worker_that_falls_silent_is_stopped_as_unhealthy(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    spec = endpoint_spec(
        "serve", health={"interval_s": 0.1, "timeout_s": 0.1, "failure_threshold": 2}
    )
    worker = await rig.scheduler.assign(spec)
    await rig.scheduler.until(lambda: worker.worker_id in host.workers)
    fake = host.workers[worker.worker_id]
    # Two late answers in a row, as on a machine that stands still, are a silence as well.
    await rig.scheduler.until(lambda: WorkerState.RUNNING in rig.scheduler.states(worker.worker_id))

    fake.status = 0

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.UNHEALTHY
    assert said(status) == (
        f"2 probes in a row failed; the last: GET /health on port {fake.port} was not answered "
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
    host.stop_gate.clear()
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    await rig.scheduler.want(worker, DesiredState.STOPPED)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
    assert host.workers[worker.worker_id].exit is None
    host.stop_gate.set()
    await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)


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
