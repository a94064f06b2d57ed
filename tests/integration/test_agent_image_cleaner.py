"""Unused images go when the disk is said to be full: a real engine and registry, a played disk.

The engine is shared, so the disk's reading is played, and only images that the test itself had
pulled stand in its ledger.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError
from typing_extensions import override

from penstock_common import entropy, ids, subjects
from penstock_common.clock import SystemClock
from penstock_common.events.catalogue import NODE_IMAGE_REMOVED
from penstock_common.image_references import repository
from penstock_common.messages import ImageRemoved
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.image_choice import DiskSpace, Marks
from penstock_node_agent.runtimes.docker.image_cleaner import ImageCare, engine_disk
from penstock_node_agent.runtimes.docker.image_ledger import ImageLedger
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import Credentials, ImageWish, StartOrder
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import NODE, agent_rig
from tests.support.cloud_events import read_message
from tests.support.docker_engine import docker_host
from tests.support.docker_registry import PASSWORD, USERNAME, PrivateRegistry
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.slow]


async def credentials() -> Credentials:
    return Credentials(USERNAME, PASSWORD)


class LateClock(SystemClock):
    """So much later than it is."""

    def __init__(self) -> None:
        self.later = timedelta()

    @override
    def utc(self) -> datetime:
        return super().utc() + self.later


class Rig:
    """A runtime with a ledger, a registry, and a disk that each image fills by ten percent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
        self.registry = PrivateRegistry(folder / "registry")
        self.clock = LateClock()
        self.runtime = self.make()
        self.images: list[str] = []
        self.ordered: list[str] = []
        self.other_tag = f"penstock-test-{uuid.uuid4().hex[:8]}:1"

    def make(self) -> DockerRuntime:
        care = ImageCare(
            ledger=ImageLedger(self.folder / "images.json"),
            marks=Marks(low_ratio=0.85),
            read_disk=self.read_disk,
            clock=self.clock,
        )
        node_id = f"node-{uuid.uuid4().hex[:8]}"
        settings = DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
        return DockerRuntime(settings, care)

    def read_disk(self, client: APIClient) -> DiskSpace:
        return DiskSpace(100, 100 - 10 * len(self.present(client)))

    def present(self, client: APIClient) -> set[str]:
        """Names of the test's images that the engine has."""
        ours = f"127.0.0.1:{self.registry.port}/"
        names = {
            repository(name)
            for image in client.images()
            for name in (*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ()))
            if name.startswith(ours)
        }
        return {name.rpartition("/")[2] for name in names}

    async def run(self, name: str) -> str:
        """A worker of this image, which ends at once; gives its id."""
        image = await asyncio.to_thread(self.registry.push, self.engine, name, name)
        self.images.append(image)
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
            credentials=credentials,
        )
        await self.runtime.start(order)
        await self.runtime.wait(worker_id)
        return worker_id

    async def remove(self, worker_id: str) -> None:
        self.ordered.remove(worker_id)
        await self.runtime.remove(worker_id)

    async def clean(self) -> list[ImageRemoved]:
        """What the next looks remove, by way of `tend`."""
        for _ in range(10):
            await self.runtime.tend()
        cleaning: Any = self.runtime._cleaner._cleaning
        await asyncio.wait({cleaning})
        cleaning.result()
        return list(await self.runtime.tend())


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    made.registry.start()
    await made.runtime.open()
    yield made
    for worker_id in made.ordered:
        await made.runtime.remove(worker_id)
    await made.runtime.close()
    for image in (*made.images, made.other_tag):
        with contextlib.suppress(APIError):
            made.engine.remove_image(image, force=True)
    made.engine.close()
    made.registry.stop()


async def test_unused_images_go_in_order_until_enough_is_free(rig: Rig) -> None:
    for name in ("one", "two", "three"):
        await rig.remove(await rig.run(name))
    assert await rig.clean() == [], "all were used a moment ago"

    rig.clock.later = timedelta(minutes=10)
    removed = await rig.clean()

    # 70 are free, cleaning begins below 85 and goes on to 100.
    assert [told.references[0].split("/")[1].split(":")[0] for told in removed] == [
        *("one", "two", "three")
    ]
    assert removed[0].free_before_bytes == 70
    assert removed[-1].free_after_bytes == 100
    assert rig.present(rig.engine) == set()
    assert await rig.clean() == []


async def test_what_is_used_wanted_or_named_by_others_stays(rig: Rig) -> None:
    used = await rig.run("used")
    named = await rig.run("named")
    started = await rig.run("started")
    idle = await rig.run("idle")
    for worker_id in (named, started, idle):
        await rig.remove(worker_id)
    repo, tag = rig.other_tag.split(":")
    await asyncio.to_thread(rig.engine.tag, rig.images[1], repo, tag)
    rig.clock.later = timedelta(minutes=10)

    with rig.runtime._images.held(ImageWish(rig.images[2])):
        removed = await rig.clean()

    assert [told.references[0] for told in removed] == [rig.images[3]]
    assert rig.present(rig.engine) == {"used", "named", "started"}
    assert (await asyncio.to_thread(rig.engine.inspect_image, rig.images[0]))["Id"]

    # An agent that comes back knows what it pulled; the used one goes once its container is gone.
    await rig.remove(used)
    back = rig.make()
    await back.open()
    removed = await asyncio.to_thread(back._cleaner.clean, rig.engine)
    await back.close()
    assert [told.references[0] for told in removed] == [rig.images[2]], "one was used just now"
    rig.clock.later = timedelta(minutes=20)
    assert [told.references[0] for told in await rig.clean()] == [rig.images[0]]
    assert rig.present(rig.engine) == {"named"}


async def test_an_image_pulled_ahead_stays_as_long_as_it_is_ordered(rig: Rig) -> None:
    image = await asyncio.to_thread(rig.registry.push, rig.engine, "ahead", "ahead")
    rig.images.append(image)
    seen: list[Any] = []
    wish = ImageWish(image, credentials=credentials)
    rig.runtime.keep_images(frozenset({image}))
    pulled = await rig.runtime.prewarm(wish, seen.append)
    assert pulled.digest is not None
    # How many bytes is tested where an image has some: of a layer this small the engine may tell
    # nobody that it was downloading before it has it.
    assert seen[-1].done == seen[-1].total
    assert await rig.runtime.prewarm(wish) == pulled, "it is there already"
    for name in ("one", "two"):
        await rig.remove(await rig.run(name))
    rig.clock.later = timedelta(minutes=10)

    assert {told.references[0] for told in await rig.clean()} == set(rig.images[1:])
    assert rig.present(rig.engine) == {"ahead"}
    rig.runtime.keep_images(frozenset())
    await rig.remove(await rig.run("three"))
    rig.clock.later = timedelta(minutes=20)
    assert {told.references[0] for told in await rig.clean()} == {image, rig.images[-1]}


async def test_the_engines_own_disk_is_read(rig: Rig) -> None:
    disk = await asyncio.to_thread(engine_disk, rig.engine)
    assert disk is not None
    assert 0 < disk.free_bytes < disk.total_bytes


@pytest.mark.nats
async def test_a_removed_image_is_told_as_an_event(nats_server: NatsServer) -> None:
    host = FakeHost()
    removed = ImageRemoved(
        node_id=NODE,
        image_id="sha256:1",
        references=("a/b:1",),
        size_bytes=5,
        disk_total_bytes=100,
        free_before_bytes=1,
        free_after_bytes=6,
    )
    async with agent_rig(nats_server) as rig:
        bus = await rig.bus("listener")
        heard: asyncio.Queue[Any] = asyncio.Queue()
        await bus.subscribe(subjects.node_event(NODE, "image_removed"), heard.put_nowait)
        await rig.start(FakeRuntime(host, "docker"))
        host.images_removed.append(removed)
        async with asyncio.timeout(60):
            message = await heard.get()
        assert read_message(message) == (NODE_IMAGE_REMOVED, removed)
