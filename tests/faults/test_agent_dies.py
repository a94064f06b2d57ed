"""The agent dies between any two calls to the engine: the next one puts everything right."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from docker import APIClient

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.messages import RegistryAuthRecord
from penstock_common.nats.kv import Bucket
from penstock_common.sealing import Sealer, new_key
from penstock_common.states import DesiredState, WorkerState
from penstock_node_agent.runtimes.docker.containers import NETWORK, DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from tests.support.agent_rig import AgentRig, RunningAgent, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.docker_registry import PASSWORD, USERNAME, PrivateRegistry
from tests.support.nats_server import NatsServer
from tests.support.own_engine import own_engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SERVER = (
    "import http.server, os; H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers()); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
SPEC = endpoint_spec(
    "",
    image={"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'},
    workers={"start_timeout_s": 20, "stop_grace_s": 0},
    storage={"volumes": [{"type": "local", "mount_path": "/data"}]},
)
#: More calls than a worker's start, or its end, takes; the walk says so if they become more.
MOST_CALLS = 30
#: The network, a creation without an image, the pull, a creation.
PULL_CALLS = 5


class DiedError(Exception):
    """No error that anybody handles: the agent ends on the spot."""


class Calls:
    """So many calls may be made, by whichever client, and then no more."""

    def __init__(self, most: int) -> None:
        self.left = most


class DyingClient:
    """A client that makes the calls that are left."""

    def __init__(self, client: APIClient, calls: Calls) -> None:
        self._client = client
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("create_host_config", "close"):  # ask nothing of the engine
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._calls.left == 0:
                raise DiedError
            self._calls.left -= 1
            return method(*args, **kwargs)

        return call


class Site:
    """A node whose agents die."""

    def __init__(self, rig: AgentRig, host: str, address: str) -> None:
        self.rig = rig
        self.scheduler = rig.scheduler
        self._node_id = f"node-{uuid.uuid4().hex[:8]}"
        self._settings = DockerSettings(docker_host=host, node_id=self._node_id, address=address)
        self._sealer = Sealer(new_key())
        self.engine = APIClient(base_url=host, version="auto", timeout=60)

    async def agent(self, calls: int | None = None) -> RunningAgent:
        """An agent that serves, and dies at its call number `calls` from now."""
        runtime = DockerRuntime(self._settings)
        running = await self.rig.start(runtime, sealer=self._sealer, stop_workers_on_exit=False)
        if calls is not None:
            left = Calls(calls)
            connect = runtime._puller._connect

            def connect_to_pull(timeout_s: float) -> APIClient:
                return cast("APIClient", DyingClient(connect(timeout_s), left))

            runtime._puller._connect = connect_to_pull
            runtime._engine._api = cast("APIClient", DyingClient(runtime._engine.client, left))
        return running

    async def add_registry_auth(self, registry_auth_id: str) -> None:
        """As the api does."""
        record = RegistryAuthRecord(
            registry_auth_id=registry_auth_id,
            name="test",
            username=USERNAME,
            sealed=self._sealer.seal({"password": PASSWORD}),
            created_at=SystemClock().utc(),
        )
        bucket = Bucket(await self.rig.bus("api"), subjects.REGISTRY_AUTHS)
        await bucket.put(registry_auth_id, record.encode())

    def left(self) -> list[str]:
        """Containers and volumes of this node."""
        filters = {"label": f"penstock.node={self._node_id}"}
        found = [c["Names"][0] for c in self.engine.containers(all=True, filters=filters)]
        return found + [v["Name"] for v in self.engine.volumes(filters=filters)["Volumes"] or ()]


@contextlib.asynccontextmanager
async def node(server: NatsServer, host: str, address: str) -> AsyncIterator[Site]:
    async with agent_rig(server) as rig:
        made = Site(rig, host, address)
        yield made
        for name in [n for n in made.left() if n.startswith("/")]:
            made.engine.remove_container(name, force=True, v=True)
        made.engine.close()


@pytest.fixture
async def site(nats_server: NatsServer) -> AsyncIterator[Site]:
    async with node(nats_server, docker_host(), "127.0.0.1") as made:
        yield made


async def died(running: RunningAgent) -> bool:
    """Whether it died by itself; it is dead afterwards in any case."""
    await asyncio.sleep(0)
    by_itself = running._task.done()
    await running.kill()
    with contextlib.suppress(BaseException):
        running._task.result()
    return by_itself


async def test_a_start_is_completed_and_never_doubled(site: Site) -> None:
    scheduler = site.scheduler
    for calls in range(MOST_CALLS):
        dying = await site.agent(calls)
        worker = await scheduler.assign(SPEC)
        worker_id = worker.worker_id

        def settled(dying: RunningAgent = dying, worker_id: str = worker_id) -> bool:
            status = scheduler.status(worker_id)
            return dying._task.done() or (
                status is not None and status.state is WorkerState.RUNNING
            )

        await scheduler.until(settled, 30)
        done = not await died(dying)
        heir = await site.agent()
        await scheduler.until_state(worker_id, WorkerState.RUNNING, 30)
        left = await asyncio.to_thread(site.left)
        assert sorted(left) == [f"/penstock-{worker_id}", f"penstock-{worker_id}-0"]
        await scheduler.unassign(worker_id)
        await scheduler.until_gone(worker_id, 30)
        assert await asyncio.to_thread(site.left) == []
        await heir.kill()
        if done:
            return
    raise AssertionError("a start takes more calls than are walked")


async def test_an_end_is_completed_and_leaves_nothing(site: Site) -> None:
    scheduler = site.scheduler
    for calls in range(MOST_CALLS):
        first = await site.agent()
        worker = await scheduler.assign(SPEC)
        worker_id = worker.worker_id
        await scheduler.until_state(worker_id, WorkerState.RUNNING, 30)
        await first.kill()
        dying = await site.agent(calls)
        await scheduler.want(worker, DesiredState.STOPPED)

        def settled(dying: RunningAgent = dying, worker_id: str = worker_id) -> bool:
            status = scheduler.status(worker_id)
            return dying._task.done() or (
                status is not None and status.state is WorkerState.STOPPED
            )

        await scheduler.until(settled, 30)
        done = not await died(dying)
        heir = await site.agent()
        await scheduler.until_state(worker_id, WorkerState.STOPPED, 30)
        await scheduler.unassign(worker_id)
        await scheduler.until_gone(worker_id, 30)
        assert await asyncio.to_thread(site.left) == []
        await heir.kill()
        if done:
            return
    raise AssertionError("an end takes more calls than are walked")


async def test_a_pull_is_made_again_and_leaves_no_container(site: Site, tmp_path: Path) -> None:
    registry = PrivateRegistry(tmp_path / "registry")
    await asyncio.to_thread(registry.start)
    image = await asyncio.to_thread(registry.push, site.engine, "acme/small")
    await site.add_registry_auth("ra-1")
    spec = endpoint_spec("", image={"image": image, "registry_auth_id": "ra-1"})
    scheduler = site.scheduler
    try:
        # Up to the first call after the pull; the rest is a start like any other.
        for calls in range(PULL_CALLS):
            dying = await site.agent(calls)
            worker = await scheduler.assign(spec)
            await scheduler.until(dying._task.done, 30)
            await died(dying)
            heir = await site.agent()
            # Its image has no program: what counts is that it came so far.
            status = await scheduler.until_state(worker.worker_id, WorkerState.FAILED, 30)
            assert status.exit_code == 127, status
            await scheduler.unassign(worker.worker_id)
            await scheduler.until_gone(worker.worker_id, 30)
            assert await asyncio.to_thread(site.left) == []
            await heir.kill()
            await asyncio.to_thread(site.engine.remove_image, image)
    finally:
        await asyncio.to_thread(registry.stop)


async def test_the_workers_network_is_made_once_whoever_dies(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On an engine of its own: the machine's may have workers of others on that network."""
    with own_engine(tmp_path_factory.mktemp("e")) as engine:
        async with node(nats_server, engine.host, engine.address) as site:
            # Before it is made, and before the first call that needs it.
            for calls in (1, 2):
                dying = await site.agent(calls)
                worker = await site.scheduler.assign(SPEC)
                await site.scheduler.until(dying._task.done, 30)
                await died(dying)
                heir = await site.agent()
                await site.scheduler.until_state(worker.worker_id, WorkerState.RUNNING, 30)
                networks = await asyncio.to_thread(site.engine.networks, names=[NETWORK])
                assert [network["Name"] for network in networks] == [NETWORK]
                await site.scheduler.unassign(worker.worker_id)
                await site.scheduler.until_gone(worker.worker_id, 30)
                await heir.kill()
                await asyncio.to_thread(site.engine.remove_network, NETWORK)
