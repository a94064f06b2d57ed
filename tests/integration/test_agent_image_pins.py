"""Which image a worker runs when its tag moves, with a real engine and a real registry."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_common import entropy, ids
from penstock_common.image_references import pinned, repository
from penstock_common.states import WorkerReason, WorkerState
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import (
    Credentials,
    RunningImage,
    StartFailedError,
    StartOrder,
)
from tests.support.agent_rig import NODE, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.docker_registry import PASSWORD, USERNAME, PrivateRegistry
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.slow]


async def credentials() -> Credentials:
    return Credentials(USERNAME, PASSWORD)


class Rig:
    """A runtime, a registry, and what a test made on the engine."""

    def __init__(self, folder: Path) -> None:
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
        self.registry = PrivateRegistry(folder / "registry")
        node_id = f"node-{uuid.uuid4().hex[:8]}"
        self.runtime = DockerRuntime(
            DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
        )
        self.ordered: list[str] = []

    async def push(self, version: str) -> str:
        return await asyncio.to_thread(self.registry.push, self.engine, "acme/moving", version)

    async def start(self, image: str, digest: str | None = None) -> tuple[str, RunningImage]:
        """Which version a new worker runs, and what is told of its image."""
        worker_id = entropy.random_id(ids.WORKER)
        self.ordered.append(worker_id)
        order = StartOrder(
            worker_id=worker_id,
            endpoint_id="ep-1",
            revision=1,
            image=image,
            entrypoint=(),
            command=("/no-such-program",),
            http_port=8000,
            env={},
            image_digest=digest,
            credentials=credentials,
        )
        started = await self.runtime.start(order)
        await self.runtime.wait(worker_id)
        assert started.image is not None
        return await self.version(worker_id), started.image

    async def version(self, worker_id: str) -> str:
        name = container_name(worker_id)
        found: Any = await asyncio.to_thread(self.engine.inspect_container, name)
        return str((found["Config"]["Labels"] or {}).get("version"))

    async def clean(self) -> None:
        """No worker and none of the registry's images is left on the engine, as on another node."""
        for worker_id in self.ordered:
            await self.runtime.stop(worker_id, 0)
            await self.runtime.remove(worker_id)
        self.ordered.clear()
        await asyncio.to_thread(self._remove_images)

    def _remove_images(self) -> None:
        ours = f"127.0.0.1:{self.registry.port}/"
        for image in self.engine.images():
            names = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
            if any(name.startswith(ours) for name in names):
                with contextlib.suppress(APIError):
                    self.engine.remove_image(image["Id"], force=True)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    made.registry.start()
    await made.runtime.open()
    yield made
    await made.clean()
    await made.runtime.close()
    made.engine.close()
    made.registry.stop()


async def test_later_workers_run_the_first_ones_image_though_the_tag_moved(rig: Rig) -> None:
    image = await rig.push("one")
    version, first = await rig.start(image)
    assert version == "one"
    assert first.digest is not None
    assert first.note is None

    await rig.push("two")
    assert await rig.start(image, first.digest) == ("one", first)
    await rig.clean()  # another node
    assert await rig.start(image, first.digest) == ("one", first)
    assert pinned(image, first.digest) in await rig.runtime.images()

    version, second = await rig.start(image)  # a new revision's first worker
    assert version == "two"
    assert second.digest not in (None, first.digest)


async def test_a_new_revision_asks_the_registry_though_the_node_has_the_tag(rig: Rig) -> None:
    image = await rig.push("one")
    _, first = await rig.start(image)
    await rig.push("two")
    old = pinned(image, first.digest or "")
    await asyncio.to_thread(rig.engine.tag, old, repository(image), "1")

    assert (await rig.start(image))[0] == "two"

    rig.registry.stop()
    version, told = await rig.start(image)
    assert (version, told.digest) == ("one", first.digest)
    assert told.note is not None
    assert "did not say what" in told.note


async def test_an_image_that_no_registry_has_runs_by_its_id(rig: Rig) -> None:
    version, told = await rig.start(IMAGE)
    assert version == "None"
    assert told.digest is None
    assert told.note is not None
    assert f"no registry gave {IMAGE}" in told.note


async def test_a_pinned_image_that_the_registry_lost_says_what_to_do(rig: Rig) -> None:
    image = await rig.push("one")
    with pytest.raises(StartFailedError, match="a new revision takes the tag anew") as raised:
        await rig.start(image, f"sha256:{'0' * 64}")
    assert raised.value.reason is WorkerReason.IMAGE_NOT_FOUND


@pytest.mark.nats
async def test_an_agent_tells_the_digest_and_obeys_it(nats_server: NatsServer, rig: Rig) -> None:
    image = await rig.push("one")
    engine = rig.engine
    await asyncio.to_thread(
        lambda: engine.pull(image, auth_config={"username": USERNAME, "password": PASSWORD})
    )
    await rig.push("two")
    node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
    settings = DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
    spec = endpoint_spec("/no-such-program", image={"image": image, "command": "/no-such-program"})
    async with agent_rig(nats_server) as agents:
        agent = await agents.start(DockerRuntime(settings))
        found = await asyncio.to_thread(
            lambda: engine.images(name=repository(image), filters={"label": "version=one"})
        )
        digest = found[0]["RepoDigests"][0].partition("@")[2]
        worker = await agents.scheduler.assign(spec, image_digest=digest)
        status = await agents.scheduler.until_state(worker.worker_id, WorkerState.FAILED, 60)
        assert (status.image_digest, status.exit_code) == (digest, 127)
        await agents.scheduler.unassign(worker.worker_id)
        await agents.scheduler.until_gone(worker.worker_id)
        await agent.stop()
