"""A router before one real worker, and a client."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from yarl import URL

from tests.fakes.router_world import (
    RunningRouter,
    World,
    http_client,
    running_router,
    running_world,
    until,
    waiting,
)
from tests.support.nats_server import NatsServer
from tests.support.upstream import UpstreamServer, running_upstream


class Scene:
    """A router, a worker of the endpoint `echo` (2 slots), and a client."""

    def __init__(
        self,
        world: World,
        running: RunningRouter,
        worker: UpstreamServer,
        client: aiohttp.ClientSession,
    ) -> None:
        self.world = world
        self.router = running.router
        self.running = running
        self.worker = worker
        self.client = client

    def url(self, path: str) -> URL:
        return URL(self.router.url + path, encoded=True)

    async def json(self, path: str, method: str = "GET", **options: Any) -> dict[str, Any]:
        async with self.client.request(method, self.url(path), **options) as response:
            assert response.status == 200, await response.text()
            body: dict[str, Any] = await response.json(content_type=None)
            return body

    async def text(self, path: str) -> str:
        async with self.client.get(self.url(path)) as response:
            assert response.status == 200, await response.text()
            return await response.text()

    async def refusal(self, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        async with self.client.get(self.url(path), **options) as response:
            assert response.content_type == "application/problem+json"
            body: dict[str, Any] = json.loads(await response.read())
            assert body["status"] == response.status
            return response.status, body


@contextlib.asynccontextmanager
async def router_scene(nats_server: NatsServer) -> AsyncIterator[Scene]:
    """All of it, until the block is left."""
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        running_router(nats_server.url, domain="ex.com", connect_timeout_s=60) as running,
        http_client() as client,
    ):
        endpoint_id = await world.put_endpoint(
            "echo",
            running.router,
            workers={"max_concurrency": 2, "request_timeout_s": 300},
            queue={"max_waiting": 3, "max_wait_s": 300},
        )
        await world.put_lease()
        await world.run_worker(endpoint_id, "wk-1", worker.port, running.router)
        yield Scene(world, running, worker, client)


async def wait_for_waiting(scene: Scene, n: int) -> None:
    await until(lambda: waiting(scene.router, "ep-echo") == n)


def fields(echoed: dict[str, Any], name: str) -> list[str]:
    return [v for n, v in echoed["headers"] if n.lower() == name.lower()]
