"""An engine that fails, is away or takes its workers with it, played by the fake runtime."""

import asyncio

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.messages import EngineProblem
from penstock_common.nats.connection import Received
from penstock_common.states import WorkerReason, WorkerState
from penstock_node_agent.runtimes.protocol import (
    Exit,
    RuntimeFailedError,
    RuntimeProblem,
    StartFailedError,
)
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import NODE, AgentRig, endpoint_spec, said
from tests.support.cloud_events import read_message

SERVE = endpoint_spec("serve")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeFailedError("the engine hangs"),
        StartFailedError(WorkerReason.ENGINE_ERROR, "the engine hangs"),
    ],
)
async def test_a_start_that_the_engine_fails_is_tried_again(
    rig: AgentRig, host: FakeHost, error: Exception
) -> None:
    host.start_errors.append(error)
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)


async def test_an_engine_that_fails_for_too_long_fails_the_start(
    rig: AgentRig, host: FakeHost
) -> None:
    host.start_errors.extend([RuntimeFailedError("the engine hangs")] * 2)
    await rig.start(FakeRuntime(host), engine_patience_s=0.1)

    worker = await rig.scheduler.assign(SERVE)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, said(status)) == (WorkerReason.ENGINE_ERROR, "the engine hangs")
    assert host.workers == {}


async def test_a_worker_whose_engine_is_away_is_not_called_unhealthy(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    fake = host.workers[worker.worker_id]
    host.problem = RuntimeProblem("gone", SystemClock().utc())
    fake.status = 500
    asked = fake.requests
    await rig.scheduler.until(lambda: fake.requests > asked + 2 * SERVE.health.failure_threshold)
    status = rig.scheduler.status(worker.worker_id)
    assert status is not None
    assert status.state is WorkerState.RUNNING

    host.problem = None

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.reason is WorkerReason.UNHEALTHY


async def test_a_worker_that_ended_with_its_engine_has_a_reason_of_its_own(
    rig: AgentRig, host: FakeHost
) -> None:
    host.early_exits.append(Exit(143, with_engine=True))
    await rig.start(FakeRuntime(host))

    worker = await rig.scheduler.assign(SERVE)

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, status.exit_code) == (WorkerReason.ENGINE_RESTARTED, 143)
    assert "live-restore" in (status.message or "")


async def test_an_engine_that_is_away_is_said_in_the_nodes_record_and_by_events(
    rig: AgentRig, host: FakeHost
) -> None:
    await rig.start(FakeRuntime(host))
    bus = await rig.bus("listener")
    heard: asyncio.Queue[str] = asyncio.Queue()

    def hear(message: Received) -> None:
        heard.put_nowait(read_message(message)[0].verb)

    await bus.subscribe(subjects.node_event(NODE, "*"), hear)
    since = SystemClock().utc()
    host.problem = RuntimeProblem("gone", since)
    assert await heard.get() == "engine_lost"
    record = await rig.scheduler.until_node(lambda node: node.engine_problem is not None)
    assert record.engine_problem == EngineProblem(message="gone", since=since)

    host.problem = None

    assert await heard.get() == "engine_found"
    await rig.scheduler.until_node(lambda node: node.engine_problem is None)


async def test_beats_go_on_while_the_engine_answers_nothing(rig: AgentRig, host: FakeHost) -> None:
    class Hanging(FakeRuntime):
        async def images(self) -> tuple[str, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    running = await rig.start(Hanging(host))
    first = await rig.scheduler.node()
    assert first is not None

    running.agent._parts.heartbeat.beat_soon()

    record = await rig.scheduler.until_node(lambda node: node.beat > first.beat)
    assert (first.images, record.images) == ((), ())


async def test_an_agent_whose_engine_is_away_at_the_start_waits_for_it(
    rig: AgentRig, host: FakeHost
) -> None:
    class Late(FakeRuntime):
        tries = 0

        async def open(self) -> None:
            self.tries += 1
            if self.tries <= 2:
                raise RuntimeFailedError("connection refused")
            assert await rig.scheduler.node() is not None  # it says that it lives

    await rig.start(Late(host))
    worker = await rig.scheduler.assign(SERVE)

    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
