"""The agent dies between any two calls to the engine: the next one puts everything right."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from docker import APIClient

from penstock_common.states import DesiredState, WorkerState
from penstock_node_agent.docker_containers import DockerSettings
from penstock_node_agent.docker_runtime import DockerRuntime
from tests.support.agent_rig import AgentRig, RunningAgent, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

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


class DiedError(Exception):
    """No error that anybody handles: the agent ends on the spot."""


class DyingClient:
    """A client that makes so many calls and then no more."""

    def __init__(self, client: APIClient, calls: int) -> None:
        self._client = client
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in ("create_host_config", "close"):  # ask nothing of the engine
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                raise DiedError
            self._left -= 1
            return method(*args, **kwargs)

        return call


class Site:
    """A node whose agents die."""

    def __init__(self, rig: AgentRig) -> None:
        self.rig = rig
        self.scheduler = rig.scheduler
        self._node_id = f"node-{uuid.uuid4().hex[:8]}"
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)

    async def agent(self, calls: int | None = None) -> RunningAgent:
        """An agent that serves, and dies at its call number `calls` from now."""
        runtime = DockerRuntime(
            DockerSettings(docker_host=docker_host(), node_id=self._node_id, address="127.0.0.1")
        )
        running = await self.rig.start(runtime, stop_workers_on_exit=False)
        if calls is not None:
            runtime._engine._api = cast("APIClient", DyingClient(runtime._engine.client, calls))
        return running

    def left(self) -> list[str]:
        """Containers and volumes of this node."""
        filters = {"label": f"penstock.node={self._node_id}"}
        found = [c["Names"][0] for c in self.engine.containers(all=True, filters=filters)]
        return found + [v["Name"] for v in self.engine.volumes(filters=filters)["Volumes"] or ()]


@pytest.fixture
async def site(nats_server: NatsServer) -> AsyncIterator[Site]:
    async with agent_rig(nats_server) as rig:
        made = Site(rig)
        yield made
        for name in [n for n in made.left() if n.startswith("/")]:
            made.engine.remove_container(name, force=True, v=True)
        made.engine.close()


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
