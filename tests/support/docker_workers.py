"""Container workers on a real Docker engine, and their end with the test."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

from docker import APIClient

from penstock_common import entropy, ids
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import StartOrder
from tests.support.docker_engine import IMAGE, docker_host


class DockerWorkers:
    """A runtime of its own node, and the engine below it."""

    def __init__(self, node_id: str, **settings: Any) -> None:
        self.settings = DockerSettings(
            docker_host=docker_host(),
            node_id=node_id,
            address="127.0.0.1",
            pull_pauses_s=(0.0, 0.0),
            **settings,
        )
        self.runtime = DockerRuntime(self.settings)
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
        self.ordered: list[str] = []

    def order(self, *command: str, **changes: Any) -> StartOrder:
        worker_id = entropy.random_id(ids.WORKER)
        self.ordered.append(worker_id)
        fields: dict[str, Any] = {
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "revision": 2,
            "image": IMAGE,
            "entrypoint": (),
            "command": command,
            "http_port": 8000,
            "env": {},
        }
        return StartOrder(**fields | changes)

    def inspect(self, worker_id: str) -> Any:
        return self.engine.inspect_container(container_name(worker_id))


@contextlib.asynccontextmanager
async def docker_workers(**settings: Any) -> AsyncIterator[DockerWorkers]:
    """A node without workers, with these settings of its own; those that are left at the end are stopped and removed."""
    made = DockerWorkers(f"node-{uuid.uuid4().hex[:8]}", **settings)
    await made.runtime.open()
    try:
        yield made
    finally:
        for worker_id in made.ordered:
            await made.runtime.stop(worker_id, 0)
            await made.runtime.remove(worker_id)
        await made.runtime.close()
        made.engine.close()
