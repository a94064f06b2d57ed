"""Lives of real containers under a real agent: what they get, and how they are ended."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest
from docker import APIClient

from penstock_common.messages import WorkerAssignment
from penstock_common.states import DesiredState, Phase, WorkerState
from penstock_node_agent.runtimes.docker.containers import NETWORK, DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from tests.support.agent_rig import NODE, AgentRig, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.nats, pytest.mark.slow]

#: Answers with its variables; on SIGTERM it says so and, unless it is polite, goes on.
SERVER = (
    "import http.server, json, os, signal; "
    "polite = os.environ['MANNERS'] == 'polite'; "
    "term = lambda *_: (print('terminated', flush=True), polite and os._exit(0)); "
    "signal.signal(signal.SIGTERM, term); "
    "H = http.server.BaseHTTPRequestHandler; H.log_message = lambda *a: None; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers(), "
    "s.wfile.write(json.dumps(dict(os.environ)).encode())); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)


class Site:
    """An agent with container workers."""

    def __init__(self, rig: AgentRig) -> None:
        self.scheduler = rig.scheduler
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)

    async def worker(self, manners: str, *, grace_s: float) -> WorkerAssignment:
        """A worker that runs."""
        spec = endpoint_spec(
            "",
            image={
                "image": IMAGE,
                "entrypoint": "python3 -c",
                "command": f'"{SERVER}"',
                "http_port": 8123,
            },
            workers={"start_timeout_s": 60, "stop_grace_s": grace_s},
            env={"MANNERS": manners},
        )
        assignment = await self.scheduler.assign(spec, revision=7)
        await self.scheduler.until_state(assignment.worker_id, WorkerState.RUNNING)
        return assignment

    async def ask(self, assignment: WorkerAssignment) -> dict[str, str]:
        """The variables that it has."""
        status = self.scheduler.status(assignment.worker_id)
        assert status is not None
        url = f"http://{status.host}:{status.port}/"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            variables: dict[str, str] = await answer.json(content_type=None)
            return variables

    async def lines(self, assignment: WorkerAssignment, *, follow: bool = False) -> list[str]:
        """What it has written; `follow`: until its end."""
        name = container_name(assignment.worker_id)

        def read() -> bytes:
            if not follow:
                return self.engine.logs(name)
            return b"".join(self.engine.logs(name, follow=True, stream=True))

        return (await asyncio.to_thread(read)).decode().splitlines()


@pytest.fixture
async def site(nats_server: NatsServer) -> AsyncIterator[Site]:
    async with agent_rig(nats_server) as rig:
        node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
        settings = DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
        running = await rig.start(DockerRuntime(settings))
        made = Site(rig)
        yield made
        await running.stop()
        made.engine.close()


async def test_a_worker_knows_its_port_its_endpoint_and_itself(site: Site) -> None:
    worker = await site.worker("polite", grace_s=5)

    variables = await site.ask(worker)

    assert variables["PORT"] == "8123"
    assert variables["PENSTOCK_ENDPOINT_ID"] == worker.endpoint_id
    assert variables["PENSTOCK_WORKER_ID"] == worker.worker_id
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "void"
    status = site.scheduler.status(worker.worker_id)
    assert status is not None
    assert set(status.phases) == set(Phase)


async def test_a_draining_worker_serves_on_until_it_is_told_to_stop(site: Site) -> None:
    worker = await site.worker("polite", grace_s=60)
    await site.scheduler.want(worker, DesiredState.DRAINING)
    await site.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
    assert await site.ask(worker)
    assert await site.lines(worker) == []

    await site.scheduler.want(worker, DesiredState.STOPPED)

    status = await site.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert status.exit_code == 0  # it ended itself on SIGTERM, long before its grace was over


async def test_a_worker_that_does_not_heed_sigterm_is_killed_after_its_grace(site: Site) -> None:
    worker = await site.worker("stubborn", grace_s=3)
    written = asyncio.create_task(site.lines(worker, follow=True), name="read to the end")

    await site.scheduler.want(worker, DesiredState.STOPPED)

    status = await site.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
    assert status.exit_code == 137
    assert await written == ["terminated"]


async def test_a_worker_is_fenced_in_as_promised(site: Site) -> None:
    worker = await site.worker("polite", grace_s=1)

    found = await asyncio.to_thread(site.engine.inspect_container, container_name(worker.worker_id))
    network = await asyncio.to_thread(site.engine.inspect_network, NETWORK)

    host = found["HostConfig"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert sorted(host["CapDrop"]) == ["MKNOD", "NET_RAW", "SETFCAP"]
    assert not host["CapAdd"]
    assert (host["PidMode"], host["UsernsMode"], host["UTSMode"]) == ("", "", "")
    assert host["IpcMode"] == "private"
    assert host["PidsLimit"] > 0
    assert host["ShmSize"] >= 64 * 1024**2
    assert host["Init"] is True
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["LogConfig"]["Type"] == "local"
    assert int(host["LogConfig"]["Config"]["max-file"]) * 10 <= 100  # MB
    assert not host["Binds"]
    assert not found["Mounts"]
    assert "/var/run/docker.sock" not in str(found)
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert list(found["NetworkSettings"]["Networks"]) == [NETWORK]
    limits = {limit["Name"]: limit["Hard"] for limit in host["Ulimits"] or ()}
    # An engine that cannot raise them leaves its own; any other gives what GPU programs need.
    assert limits in ({}, {"memlock": -1, "nofile": 1_048_576, "stack": 67_108_864})
