"""The agent while NATS, the engine or the agent itself fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.nats.kv import Bucket
from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.runtimes.docker.client import engine_problem
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import RuntimeFailedError, StartFailedError, StartOrder
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, agent_rig, endpoint_spec
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.slow

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


async def test_workers_run_on_while_nats_is_away_and_what_happened_is_told_after(
    rig: AgentRig, host: FakeHost, nats_server: NatsServer
) -> None:
    await rig.start(FakeRuntime(host))
    lives, dies = [await rig.scheduler.assign(SERVE) for _ in range(2)]
    for worker in (lives, dies):
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    nats_server.kill()
    await rig.scheduler.until(lambda: not rig.scheduler.statuses.synced)
    host.workers[dies.worker_id].end(5)
    probed = host.workers[lives.worker_id].requests
    await rig.scheduler.until(lambda: host.workers[lives.worker_id].requests > probed + 5)

    nats_server.start()

    status = await rig.scheduler.until_state(dies.worker_id, WorkerState.FAILED, 60)
    assert status.exit_code == 5
    assert host.workers[lives.worker_id].exit is None
    assert host.started == [lives.worker_id, dies.worker_id]


async def test_the_node_is_back_at_once_after_a_restart_of_nats(
    rig: AgentRig, host: FakeHost, nats_server: NatsServer
) -> None:
    await rig.start(FakeRuntime(host))
    before = await rig.scheduler.node()
    assert before is not None
    nats_server.kill()
    nats_server.start()  # its memory buckets are gone

    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Exception):
                after = await rig.scheduler.node()
                if after is not None:
                    break
            await asyncio.sleep(0.05)
    assert after.beat > before.beat
    assert after.started_at == before.started_at


async def test_what_is_wanted_changes_while_nats_restarts(
    rig: AgentRig, host: FakeHost, nats_server: NatsServer
) -> None:
    running = await rig.start(FakeRuntime(host))
    stopped, gone = [await rig.scheduler.assign(SERVE) for _ in range(2)]
    for worker in (stopped, gone):
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    nats_server.kill()
    nats_server.start()

    async with asyncio.timeout(60):
        while True:
            try:
                await rig.scheduler.want(stopped, DesiredState.STOPPED)
                await rig.scheduler.unassign(gone.worker_id)
                break
            except Exception:  # noqa: BLE001 - until NATS is back
                await asyncio.sleep(0.05)

    await rig.scheduler.until_state(stopped.worker_id, WorkerState.STOPPED, 60)
    await rig.scheduler.until_gone(gone.worker_id, 60)
    # Its status may be seen to go before the keeper hears of it.
    await rig.scheduler.until(lambda: running.agent.keepers == 1, 60)


async def test_a_frozen_nats_holds_no_worker_up(
    rig: AgentRig, host: FakeHost, nats_server: NatsServer
) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    nats_server.freeze()
    host.workers[worker.worker_id].end(1)
    # It is cleaned away all the same, while NATS is still frozen.
    await rig.scheduler.until(lambda: worker.worker_id not in host.workers, 30)

    nats_server.thaw()

    await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED, 60)


async def test_a_status_that_was_overwritten_is_put_right(rig: AgentRig, host: FakeHost) -> None:
    await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    bucket = Bucket(await rig.bus("old connection"), subjects.WORKER_STATUS)
    late = status.model_copy(update={"state": WorkerState.STARTING})
    key = rig.scheduler.key(worker.worker_id)

    async def runs_after(revision: int) -> int:
        """Until the agent says after this write that it runs; gives the revision of that."""

        def said() -> bool:
            row = rig.scheduler.statuses.rows.get(key)
            told = row is not None and row.value.state is WorkerState.RUNNING
            return row is not None and told and row.revision > revision

        await rig.scheduler.until(said, 60)
        return rig.scheduler.statuses.rows[key].revision

    # The wrong word itself need not be seen: it is put right at once.
    revision = await runs_after(await bucket.put(key, late.encode()))
    await bucket.delete(key)
    await runs_after(revision)


async def test_statuses_of_an_ending_agent_without_nats_do_not_hold_it(
    rig: AgentRig, host: FakeHost, nats_server: NatsServer
) -> None:
    running = await rig.start(FakeRuntime(host))
    worker = await rig.scheduler.assign(SERVE)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    nats_server.kill()

    await running.stop(within_s=30)

    assert host.workers == {}


async def test_an_agent_that_dies_at_any_moment_neither_doubles_nor_loses_a_worker(
    rig: AgentRig, host: FakeHost
) -> None:
    workers = []
    for delay_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05):
        running = await rig.start(FakeRuntime(host))
        workers.append(await rig.scheduler.assign(SERVE))
        await asyncio.sleep(delay_s)
        await running.kill()

    await rig.start(FakeRuntime(host))

    for worker in workers:
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    assert sorted(host.started) == sorted(worker.worker_id for worker in workers)


@contextlib.asynccontextmanager
async def hanging_engine(folder: Path) -> AsyncIterator[str]:
    """An engine that takes connections and answers nothing but its version."""
    version = b'{"Version":"x","ApiVersion":"1.41"}'
    leave = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if b"/version" in request:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(version)}\r\n\r\n"
                writer.write(head.encode() + version)
                await writer.drain()
            await leave.wait()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client gave up
        finally:
            writer.close()

    path = folder / "engine.sock"
    server = await asyncio.start_unix_server(handle, path)
    yield f"unix://{path}"
    leave.set()
    server.close()
    await server.wait_closed()


async def test_an_engine_that_hangs_fails_a_start_in_time(tmp_path: Path) -> None:
    async with hanging_engine(tmp_path) as docker_host:
        runtime = DockerRuntime(
            DockerSettings(
                docker_host=docker_host, node_id="node-a", address="127.0.0.1", timeout_s=1
            )
        )
        await runtime.open()
        order = StartOrder("wk-1", "ep-1", 1, "img:1", (), ("x",), 8000, {})
        async with asyncio.timeout(60):
            with pytest.raises(StartFailedError) as raised:
                await runtime.start(order)
            assert raised.value.reason is WorkerReason.ENGINE_ERROR
            with pytest.raises(RuntimeFailedError):
                await runtime.stop("wk-1", 1)
            with pytest.raises(RuntimeFailedError):
                await runtime.list_workers()
        await runtime.close()


async def test_an_engine_that_is_not_there_is_explained(tmp_path: Path) -> None:
    problem = await engine_problem(f"unix://{tmp_path}/no.sock")
    assert problem is not None
    assert "No such file" in problem
