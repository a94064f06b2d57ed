"""Images and volumes through `penstock up`, a real engine and a real registry."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_node_agent.runtimes.docker.containers import container_name
from tests.support.docker_engine import docker_host
from tests.support.docker_registry import PASSWORD, USERNAME, PrivateRegistry
from tests.support.installation import Installation, eventually
from tests.support.waiting_program import waiting_program

pytestmark = [
    *(pytest.mark.docker, pytest.mark.nats, pytest.mark.slow),
]


class Images:
    """A registry, and what it put on the engine."""

    def __init__(self, folder: Path) -> None:
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
        self.registry = PrivateRegistry(folder)
        self._program = waiting_program()

    async def push(self, version: str) -> str:
        return await asyncio.to_thread(
            self.registry.push, self.engine, "acme/waits", version, self._program
        )

    async def inspect(self, worker: dict[str, Any]) -> Any:
        name = container_name(worker["id"])
        return await asyncio.to_thread(self.engine.inspect_container, name)

    async def version(self, worker: dict[str, Any]) -> str:
        return str((await self.inspect(worker))["Config"]["Labels"]["version"])

    def remove(self) -> None:
        ours = f"127.0.0.1:{self.registry.port}/"
        for image in self.engine.images():
            names = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
            if any(name.startswith(ours) for name in names):
                with contextlib.suppress(APIError):
                    self.engine.remove_image(image["Id"], force=True)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    made = Images(tmp_path / "registry")
    made.registry.start()
    yield made
    made.remove()
    made.engine.close()
    made.registry.stop()


@pytest.fixture
async def penstock(tmp_path: Path, images: Images) -> AsyncIterator[Installation]:
    shared = tmp_path / "shared"
    shared.mkdir()
    env = {"PENSTOCK_NODE_AGENT_VOLUME_PATHS": str(shared)}
    options = ("--runtime", "docker", "--gpus", "none")
    async with Installation(tmp_path / "data", *options, env=env) as running:
        yield running
        with contextlib.suppress(AssertionError):  # a failed test may not have made it
            await running.api("DELETE", "/v1/endpoints/waits")
            await running.no_workers("waits", within_s=60)


async def started(penstock: Installation, n: int, revision: int) -> list[dict[str, Any]]:
    """At least so many workers of the revision whose image is known.

    A take-over goes from one new worker to two between two looks, so "just one" may never be seen.
    """

    async def there() -> list[dict[str, Any]]:
        workers = await penstock.workers("waits")
        told = [w for w in workers if w["revision"] == revision and w["image_digest"]]
        return told if len(told) >= n else []

    return await eventually(there, f"{n} workers of revision {revision}", within_s=60)


async def test_an_endpoints_image_and_volume_stay_what_they_are(
    penstock: Installation, images: Images, tmp_path: Path
) -> None:
    image = await images.push("one")
    auth = {"name": "ours", "username": USERNAME, "password": PASSWORD}
    auth_id = (await penstock.api("POST", "/v1/registry-auths", auth))["id"]
    source = {"type": "host_path", "path": str(tmp_path / "shared")}
    volume_id = (await penstock.api("POST", "/v1/volumes", {"name": "v", "source": source}))["id"]
    order = {"image": image, "registry_auth_id": auth_id}
    prewarm = await penstock.api("POST", "/v1/prewarms", order)

    async def is_there() -> Any:
        shown = await penstock.api("GET", f"/v1/prewarms/{prewarm['id']}")
        assert shown["state"] != "failed", shown
        return shown["progress"] if shown["state"] == "done" else None

    (progress,) = await eventually(is_there, "the image is pulled ahead", within_s=60)
    first = progress["image_digest"]

    mounted = {"type": "network", "id": volume_id, "mount_path": "/data", "read_only": True}
    await penstock.deploy(
        "waits",
        "/program",
        image={"image": image, "command": "/program", "registry_auth_id": auth_id},
        workers={"min": 1, "max": 3, "stop_grace_s": 1},
        storage={"volumes": [mounted]},
        health={"path": None},
    )
    (worker,) = await started(penstock, 1, 1)
    assert (worker["image_digest"], worker["image_note"]) == (first, None)
    assert worker["pull_bytes"] is None, "the prewarm had pulled it"
    (mount,) = [m for m in (await images.inspect(worker))["Mounts"] if m["Destination"] == "/data"]
    assert (mount["Source"], mount["RW"]) == (str(tmp_path / "shared"), False)

    await images.push("two")
    await penstock.api("PATCH", "/v1/endpoints/waits", {"workers": {"min": 2}})
    workers = await started(penstock, 2, 1)
    assert [await images.version(w) for w in workers] == ["one", "one"]
    assert {w["image_digest"] for w in workers} == {first}
    assert (await penstock.api("GET", "/v1/endpoints/waits"))["image_digest"] == first

    await penstock.api("PATCH", "/v1/endpoints/waits", {"env": {"A": "1"}})
    worker = (await started(penstock, 1, 2))[0]
    assert await images.version(worker) == "two"
    assert worker["image_digest"] != first

    async with penstock.session.delete(f"{penstock.urls['api']}/v1/volumes/{volume_id}") as answer:
        assert answer.status == 409
