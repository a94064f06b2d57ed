"""The console script `penstock-node-agent` on a real NATS, with processes as workers."""

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.runtimes.process import table as process_table
from tests.support.agent_rig import NODE, AgentRig, agent_rig, endpoint_spec, said
from tests.support.docker_engine import docker_host
from tests.support.nats_server import NatsServer
from tests.support.process_workers import living, parent_pid, until

pytestmark = pytest.mark.slow

SERVER = """
import http.server, os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Service:
    """The script as a child process, with a supervisor's notify socket."""

    def __init__(self, folder: Path, server: NatsServer, **variables: str) -> None:
        self.folder = folder
        (folder / "server.py").write_text(SERVER)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / "notify.sock"
        path.unlink(missing_ok=True)
        self._notified.bind(str(path))
        self._notified.setblocking(False)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "NOTIFY_SOCKET": str(path),
            "PENSTOCK_NODE_AGENT_NATS_URL": server.url,
            "PENSTOCK_NODE_AGENT_NODE_ID": NODE,
            "PENSTOCK_NODE_AGENT_DATA_DIR": str(folder / "data"),
            "PENSTOCK_NODE_AGENT_RUNTIME": "process",
            "PENSTOCK_NODE_AGENT_PROCESS_CWD": str(folder),
            "PENSTOCK_NODE_AGENT_GPUS": "2 x rtx-4090-24gb",
            **variables,
        }
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        script = Path(sys.executable).with_name("penstock-node-agent")
        with (self.folder / "agent.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(script), env=self._environment, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        await self.start()
        async with asyncio.timeout(60):
            loop = asyncio.get_running_loop()
            while b"READY=1" not in await loop.sock_recv(self._notified, 4096):
                pass

    async def end(self, number: signal.Signals, within_s: float = 60.0) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            await self.end(signal.SIGKILL)
        self._notified.close()


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


@pytest.fixture
async def service(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Service]:
    made = Service(tmp_path, nats_server)
    yield made
    await made.close()
    for process in process_table.snapshot():
        if process.worker_id and (tmp_path / "data/workers" / process.worker_id).exists():
            process_table.send_signal(process, signal.SIGKILL)


SPEC = endpoint_spec("python3 server.py")


async def test_the_node_tells_what_it_has(rig: AgentRig, service: Service) -> None:
    await service.ready()

    node = await rig.scheduler.node()

    assert node is not None
    assert (node.runtime, node.static_gpus) == ("process", True)
    assert [(gpu.uuid, gpu.product) for gpu in node.gpus] == [
        ("static-0", "rtx-4090-24gb"),
        ("static-1", "rtx-4090-24gb"),
    ]
    assert node.cpu_count >= 1
    assert node.memory_bytes > 2**28
    assert node.disk_free_bytes > 0


async def test_sigterm_stops_every_worker_and_all_that_it_started(
    rig: AgentRig, service: Service
) -> None:
    await service.ready()
    workers = [await rig.scheduler.assign(SPEC) for _ in range(3)]
    for worker in workers:
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
        assert len(living(worker.worker_id)) == 2

    assert await service.end(signal.SIGTERM) == 0

    for worker in workers:
        status = await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
        assert status.reason is WorkerReason.AGENT_STOPPED
        assert living(worker.worker_id) == []
    assert await rig.scheduler.node() is None
    assert list((service.folder / "data/workers").iterdir()) == []


async def test_workers_survive_sigkill_and_are_taken_over(rig: AgentRig, service: Service) -> None:
    await service.ready()
    kept, orphan = [await rig.scheduler.assign(SPEC) for _ in range(2)]
    before = await rig.scheduler.until_state(kept.worker_id, WorkerState.RUNNING)
    await rig.scheduler.until_state(orphan.worker_id, WorkerState.RUNNING)
    pids = {process.pid for process in living(kept.worker_id)}
    await service.end(signal.SIGKILL)
    assert {process.pid for process in living(kept.worker_id)} == pids
    await rig.scheduler.unassign(orphan.worker_id)

    await service.ready()

    await rig.scheduler.until_gone(orphan.worker_id)
    assert living(orphan.worker_id) == []
    assert {process.pid for process in living(kept.worker_id)} == pids
    status = await rig.scheduler.until_state(kept.worker_id, WorkerState.RUNNING)
    assert status.port == before.port
    await rig.scheduler.want(kept, DesiredState.STOPPED)
    await rig.scheduler.until_state(kept.worker_id, WorkerState.STOPPED)
    assert living(kept.worker_id) == []


async def test_a_worker_that_dies_while_no_agent_looks_is_told(
    rig: AgentRig, service: Service
) -> None:
    await service.ready()
    worker = await rig.scheduler.assign(SPEC)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    await service.end(signal.SIGKILL)
    leader = next(p for p in living(worker.worker_id) if p.pid == p.session)
    process_table.send_signal(leader, signal.SIGKILL)

    await service.ready()

    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert (status.reason, status.exit_code) == (WorkerReason.EXITED, None)
    assert said(status) == "exited with an unknown exit code"
    # What it had left behind was ended, too.
    assert living(worker.worker_id) == []


async def test_orphans_of_workers_are_reaped(rig: AgentRig, service: Service) -> None:
    await service.ready()
    assert service.process is not None
    worker = await rig.scheduler.assign(SPEC)
    await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
    (orphan,) = [p for p in living(worker.worker_id) if p.session != p.pid]
    assert parent_pid(orphan.pid) == service.process.pid

    process_table.send_signal(orphan, signal.SIGKILL)

    await until(lambda: process_table.try_process(orphan.pid) is None)
    status = rig.scheduler.status(worker.worker_id)
    assert status is not None
    assert status.state is WorkerState.RUNNING


async def test_a_second_agent_on_the_same_folder_is_refused(
    rig: AgentRig, service: Service, nats_server: NatsServer
) -> None:
    await service.ready()
    second = Service(service.folder, nats_server)
    await second.start()
    assert second.process is not None
    try:
        async with asyncio.timeout(60):
            assert await second.process.wait() == 2
    finally:
        await second.close()
    assert "another node agent uses data_dir" in service.log


async def test_docker_without_an_engine_is_a_mistake_of_the_operator(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    service = Service(
        tmp_path,
        nats_server,
        PENSTOCK_NODE_AGENT_RUNTIME="docker",
        PENSTOCK_NODE_AGENT_DOCKER_HOST=f"unix://{tmp_path}/no.sock",
    )
    await service.start()
    assert service.process is not None
    async with asyncio.timeout(60):
        assert await service.process.wait() == 2
    await service.close()
    assert "runtime is docker, but no engine answers" in service.log
    assert "Traceback" not in service.log


@pytest.mark.docker
async def test_a_node_that_ran_on_an_engine_waits_for_it(
    rig: AgentRig, tmp_path: Path, nats_server: NatsServer
) -> None:
    path = tmp_path / "engine.sock"
    node_id = rig.scheduler.node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
    real = docker_host().removeprefix("unix://")
    await asyncio.to_thread(path.symlink_to, real)
    service = Service(
        tmp_path,
        nats_server,
        PENSTOCK_NODE_AGENT_NODE_ID=node_id,
        PENSTOCK_NODE_AGENT_RUNTIME="auto",
        PENSTOCK_NODE_AGENT_DOCKER_HOST=f"unix://{path}",
    )
    try:
        await service.ready()
        await service.end(signal.SIGTERM)
        await asyncio.to_thread(path.unlink)
        starting = asyncio.create_task(service.ready(), name="agent without its engine")

        record = await rig.scheduler.until_node(lambda node: node.engine_problem is not None)

        assert record.runtime == "docker"
        assert not starting.done()
        await asyncio.to_thread(path.symlink_to, real)
        await starting
        await rig.scheduler.until_node(lambda node: node.engine_problem is None)
    finally:
        await service.close()


async def test_auto_falls_back_to_processes(tmp_path: Path, nats_server: NatsServer) -> None:
    service = Service(
        tmp_path,
        nats_server,
        PENSTOCK_NODE_AGENT_RUNTIME="auto",
        PENSTOCK_NODE_AGENT_DOCKER_HOST=f"unix://{tmp_path}/no.sock",
    )
    try:
        await service.ready()
        assert await service.end(signal.SIGTERM) == 0
    finally:
        await service.close()
    assert "workers run as processes" in service.log
