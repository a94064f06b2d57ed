"""The engine is stopped, killed, frozen, unreachable or full while an agent has workers on it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from tests.support.agent_rig import NODE, AgentRig, RunningAgent, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE
from tests.support.nats_server import NatsServer
from tests.support.own_engine import OwnEngine, own_engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    # The SDK leaves the socket of each refused connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*socket.*family=1:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket.*family=1:ResourceWarning"),
]

SERVER = (
    "import http.server, os, signal; signal.signal(15, lambda *_: os._exit(143)); "
    "H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers()); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
SPEC = endpoint_spec(
    "",
    image={"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'},
    workers={"start_timeout_s": 20, "stop_grace_s": 1},
)
LIVE_RESTORE = ("--live-restore",)


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    with own_engine(tmp_path_factory.mktemp("e")) as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: OwnEngine) -> Iterator[OwnEngine]:
    yield shared_engine
    shared_engine.thaw()
    shared_engine.make_room()


class Site:
    """A node on an engine of its own."""

    def __init__(self, rig: AgentRig, engine: OwnEngine) -> None:
        self.rig = rig
        self.scheduler = rig.scheduler
        self.engine = engine
        self.runtime: DockerRuntime

    async def agent(self, *, answer_s: float = 1.0, timeout_s: float = 3.0) -> RunningAgent:
        self.runtime = DockerRuntime(
            DockerSettings(
                docker_host=self.engine.host,
                node_id=NODE,
                address=self.engine.address,
                answer_s=answer_s,
                timeout_s=timeout_s,
            )
        )
        return await self.rig.start(self.runtime, stop_workers_on_exit=False)

    async def worker(self) -> str:
        """A worker that runs."""
        assigned = await self.scheduler.assign(SPEC)
        await self.scheduler.until_state(assigned.worker_id, WorkerState.RUNNING, 30)
        return assigned.worker_id

    async def away(self) -> str:
        """Until the node's record says that its engine is away; gives what it says."""
        record = await self.scheduler.until_node(lambda node: node.engine_problem is not None)
        assert record.engine_problem is not None
        assert not record.engine_problem.full
        return record.engine_problem.message

    async def back(self) -> None:
        await self.scheduler.until_node(lambda node: node.engine_problem is None, 20)

    async def still_runs(self, worker_id: str) -> None:
        """Never ended, and served by the same container: it can be stopped in the usual way."""
        assert self.scheduler.states(worker_id)[-1] is WorkerState.RUNNING
        status = self.scheduler.status(worker_id)
        assert status is not None
        assert status.port is not None
        async with asyncio.timeout(10):
            while True:
                if await _answers(self.engine.address, status.port):
                    return
                await asyncio.sleep(0.05)


async def _answers(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


@pytest.fixture
async def site(nats_server: NatsServer, engine: OwnEngine) -> AsyncIterator[Site]:
    async with agent_rig(nats_server) as rig:
        made = Site(rig, engine)
        yield made
        await asyncio.to_thread(engine.thaw)
    await asyncio.to_thread(engine.clear)


async def test_an_engine_that_restarts_takes_its_workers_and_they_say_so(site: Site) -> None:
    await site.agent()
    first, second = await site.worker(), await site.worker()

    await asyncio.to_thread(site.engine.stop)
    await site.away()
    await asyncio.to_thread(site.engine.start)

    for worker_id in (first, second):
        status = await site.scheduler.until_state(worker_id, WorkerState.FAILED, 30)
        assert status.reason is WorkerReason.ENGINE_RESTARTED, status
        assert status.exit_code == 143
    await site.back()
    await site.worker()  # its replacement


async def test_an_engine_that_was_killed_ends_its_workers_when_it_comes_back(site: Site) -> None:
    await site.agent()
    worker_id = await site.worker()

    await asyncio.to_thread(site.engine.kill)
    await site.away()
    status = site.scheduler.status(worker_id)
    assert status is not None
    assert status.state is WorkerState.RUNNING  # nothing proves that it has ended
    await asyncio.to_thread(site.engine.start)

    status = await site.scheduler.until_state(worker_id, WorkerState.FAILED, 30)
    assert status.reason is WorkerReason.ENGINE_RESTARTED, status
    await site.back()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_workers_outlive_an_engine_with_live_restore(site: Site, how: str) -> None:
    engine = site.engine
    await asyncio.to_thread(engine.stop)
    await asyncio.to_thread(engine.start, LIVE_RESTORE)
    try:
        await site.agent()
        worker_id = await site.worker()

        await asyncio.to_thread(engine.stop if how == "stop" else engine.kill)
        await site.away()
        await asyncio.to_thread(engine.start, LIVE_RESTORE)
        await site.back()

        await site.still_runs(worker_id)
        await site.scheduler.unassign(worker_id)
        await site.scheduler.until_gone(worker_id, 20)
    finally:
        await asyncio.to_thread(engine.clear)
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(engine.start)


async def test_a_frozen_engine_is_borne_with(site: Site) -> None:
    running = await site.agent()
    kept, stopped = await site.worker(), await site.worker()
    assigned = site.scheduler.status(stopped)
    assert assigned is not None
    await asyncio.to_thread(site.engine.freeze)
    assert "within 1 s" in await site.away()
    threads = threading.active_count()
    row = await site.scheduler.workers.get(site.scheduler.key(stopped))
    assert row is not None
    # One to begin and one to end, tried again and again while nothing answers.
    begun = await site.scheduler.assign(SPEC)
    await site.scheduler.unassign(stopped)
    before = await site.scheduler.node()
    assert before is not None

    await site.scheduler.until_node(lambda node: node.beat >= before.beat + 2, 20)

    assert threading.active_count() <= threads + 10  # calls wait in a pool of eight
    assert not running._task.done()
    assert site.scheduler.states(kept)[-1] is WorkerState.RUNNING
    assert site.scheduler.status(stopped) is not None  # its GPUs are not free
    await asyncio.to_thread(site.engine.thaw)
    await site.back()
    await site.scheduler.until_gone(stopped, 30)
    await site.scheduler.until_state(begun.worker_id, WorkerState.RUNNING, 30)
    await site.still_runs(kept)


async def test_a_full_disk_is_said_and_takes_no_worker_until_there_is_room(site: Site) -> None:
    await site.agent()
    kept = await site.worker()
    await asyncio.to_thread(site.engine.fill)
    try:
        refused = await site.scheduler.assign(SPEC)

        status = await site.scheduler.until_state(refused.worker_id, WorkerState.FAILED, 20)

        assert status.reason is WorkerReason.NO_SPACE, status
        record = await site.scheduler.until_node(lambda node: node.engine_problem is not None)
        assert record.engine_problem is not None
        assert record.engine_problem.full
        assert "disk full" in record.engine_problem.message
        await site.still_runs(kept)
    finally:
        await asyncio.to_thread(site.engine.make_room)
    await site.back()
    await site.worker()


async def test_a_start_during_a_restart_is_made_when_the_engine_is_back(site: Site) -> None:
    await site.agent()
    await asyncio.to_thread(site.engine.stop)
    await site.away()
    worker = await site.scheduler.assign(SPEC)
    await asyncio.sleep(0)

    await asyncio.to_thread(site.engine.start)

    await site.scheduler.until_state(worker.worker_id, WorkerState.RUNNING, 30)


async def test_an_agent_that_comes_while_the_engine_is_away_adopts_when_it_is_back(
    site: Site,
) -> None:
    first = await site.agent()
    worker_id = await site.worker()
    await first.kill()
    await asyncio.to_thread(site.engine.hide)
    try:
        starting = asyncio.create_task(site.agent(), name="agent without an engine")
        await site.away()
        assert not starting.done()
    finally:
        await asyncio.to_thread(site.engine.show)
    await starting

    await site.back()
    await site.still_runs(worker_id)
    row = await site.scheduler.workers.get(site.scheduler.key(worker_id))
    assert row is not None
    await site.scheduler.unassign(worker_id)
    await site.scheduler.until_gone(worker_id, 20)


async def test_a_worker_told_to_stop_while_the_engine_is_away_is_stopped_after(
    site: Site,
) -> None:
    await site.agent()
    assigned = await site.scheduler.assign(SPEC)
    await site.scheduler.until_state(assigned.worker_id, WorkerState.RUNNING, 30)
    await asyncio.to_thread(site.engine.freeze)
    await site.away()
    await site.scheduler.want(assigned, DesiredState.STOPPED)
    await asyncio.to_thread(site.engine.thaw)

    await site.scheduler.until_state(assigned.worker_id, WorkerState.STOPPED, 30)
