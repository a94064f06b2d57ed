"""Volumes of container workers on a real engine: shared ones, refused ones, local ones too large."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_common import entropy, ids, subjects
from penstock_common.messages import VolumeRecord
from penstock_common.nats.kv import Bucket
from penstock_common.specs import LocalVolume
from penstock_common.states import WorkerReason, WorkerState
from penstock_common.volumes import DriverOptionsSource, HostPathSource, VolumeSource
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.docker.volumes import volume_name
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    StartFailedError,
    StartOrder,
    VolumeMount,
)
from penstock_node_agent.runtimes.volume_policy import VolumePolicy
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.slow]

WRITE = "open('/data/x', 'w').write('kept'); print('written')"
READ = "print(open('/data/x').read())"


class Rig:
    """A runtime that may mount what is in a folder, and raw options."""

    def __init__(self, folder: Path) -> None:
        self.shared = folder / "shared"
        self.shared.mkdir()
        self.engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
        self.volume_id = f"vol-{uuid.uuid4().hex[:8]}"
        self.policy = VolumePolicy(paths=(str(self.shared),), driver_options=True)
        self.runtime = self.make(self.policy)
        self.ordered: list[str] = []

    def make(self, policy: VolumePolicy) -> DockerRuntime:
        node_id = f"node-{uuid.uuid4().hex[:8]}"
        return DockerRuntime(
            DockerSettings(
                docker_host=docker_host(), node_id=node_id, address="127.0.0.1", volumes=policy
            )
        )

    def order(self, program: str, source: VolumeSource | None = None, **changes: Any) -> StartOrder:
        worker_id = entropy.random_id(ids.WORKER)
        self.ordered.append(worker_id)
        mounts: tuple[VolumeMount, ...] = ()
        if source is not None:
            read_only = bool(changes.pop("read_only", False))
            mounts = (VolumeMount(self.volume_id, source, "/data", read_only),)
        fields: dict[str, Any] = {
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "revision": 1,
            "image": IMAGE,
            "entrypoint": ("python3", "-c"),
            "command": (program,),
            "http_port": 8000,
            "env": {},
            "mounts": mounts,
        }
        return StartOrder(**fields | changes)

    async def output(self, order: StartOrder) -> tuple[int | None, str]:
        """How the worker ended, and its last line."""
        await self.runtime.start(order)
        ended = await self.runtime.wait(order.worker_id)
        return ended.code, "".join(await self.runtime.log_tail(order.worker_id, 1))

    def host_path(self, name: str = "") -> HostPathSource:
        return HostPathSource(type="host_path", path=f"{self.shared}/{name}".rstrip("/"))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await made.runtime.open()
    yield made
    for worker_id in made.ordered:
        await made.runtime.stop(worker_id, 0)
        await made.runtime.remove(worker_id)
    await made.runtime.close()
    with contextlib.suppress(APIError):
        made.engine.remove_volume(volume_name(made.volume_id))
    made.engine.close()


async def test_a_host_path_is_shared_and_outlives_its_workers(rig: Rig) -> None:
    source = rig.host_path()
    writing = rig.order(WRITE, source)
    assert await rig.output(writing) == (0, "written")
    await rig.runtime.remove(writing.worker_id)
    assert (rig.shared / "x").read_text() == "kept"

    assert await rig.output(rig.order(READ, source, read_only=True)) == (0, "kept")
    code, line = await rig.output(rig.order(WRITE, source, read_only=True))
    assert code == 1
    assert "Read-only file system" in line


async def test_a_host_path_is_made_when_its_volume_says_so(rig: Rig) -> None:
    source = rig.host_path("new").model_copy(update={"make": True})
    assert await rig.output(rig.order(WRITE, source)) == (0, "written")
    assert (rig.shared / "new/x").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "told"),
    [("out", "leads out of volume_paths"), ("none", "cannot be opened on this node")],
)
async def test_a_path_that_leads_out_or_nowhere_starts_nothing(
    rig: Rig, name: str, told: str
) -> None:
    (rig.shared / "out").symlink_to("/etc")
    order = rig.order(WRITE, rig.host_path(name))
    with pytest.raises(StartFailedError, match=told) as raised:
        await rig.runtime.start(order)
    assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE
    assert rig.volume_id in str(raised.value)
    with pytest.raises(APIError, match="No such container"):
        await asyncio.to_thread(rig.engine.inspect_container, container_name(order.worker_id))
    assert not (rig.shared / "none").exists(), "the engine makes no directory in its place"


async def test_workers_of_a_node_share_one_mount_by_driver_options(rig: Rig) -> None:
    source = DriverOptionsSource(
        type="driver_options", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    )
    holding = rig.order(f"{WRITE}; import time; time.sleep(600)", source)
    await rig.runtime.start(holding)
    wait = "import os, time\nwhile not os.path.exists('/data/x'): time.sleep(0.02)\n"

    assert await rig.output(rig.order(wait + READ, source)) == (0, "kept")
    found = await asyncio.to_thread(rig.engine.inspect_volume, volume_name(rig.volume_id))
    assert found["Labels"] == {"penstock.managed": "1", "penstock.volume": rig.volume_id}
    # Not a worker's remains: an agent that comes back must not take it for one.
    listed = {item.worker_id for item in await rig.runtime.list_workers()}
    assert listed == set(rig.ordered)


async def test_a_volume_is_not_removed_with_its_last_worker(rig: Rig) -> None:
    options = {"type": "none", "device": str(rig.shared), "o": "bind"}
    source = DriverOptionsSource(type="driver_options", options=options)
    order = rig.order(WRITE, source)
    assert await rig.output(order) == (0, "written")

    await rig.runtime.remove(order.worker_id)

    assert (rig.shared / "x").read_text() == "kept"
    await asyncio.to_thread(rig.engine.inspect_volume, volume_name(rig.volume_id))


async def test_what_the_engine_cannot_mount_has_its_reason(rig: Rig) -> None:
    options = {"type": "none", "device": "/no/such/directory", "o": "bind"}
    source = DriverOptionsSource(type="driver_options", options=options)
    with pytest.raises(StartFailedError, match="failed to mount local volume") as raised:
        await rig.runtime.start(rig.order(WRITE, source))
    assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE


async def test_raw_options_are_refused_without_the_operators_word(rig: Rig) -> None:
    strict = rig.make(VolumePolicy(paths=("/",)))
    await strict.open()
    source = DriverOptionsSource(type="driver_options", options={"type": "tmpfs"})
    try:
        with pytest.raises(StartFailedError, match="volume_driver_options") as raised:
            await strict.start(rig.order(WRITE, source))
    finally:
        await strict.close()
    assert raised.value.reason is WorkerReason.VOLUME_UNAVAILABLE


async def test_a_local_volume_larger_than_it_may_be_ends_its_worker(rig: Rig) -> None:
    program = (
        "import os, time; f = open('/scratch/x', 'w'); os.posix_fallocate(f.fileno(), 0, {}); "
        "time.sleep(600)"
    )
    volumes = (LocalVolume(type="local", size_gb=1, mount_path="/scratch"),)
    large, small = (
        rig.order(program.format(size), volumes=volumes) for size in (1_100_000_000, 1_000_000)
    )
    for order in (large, small):
        await rig.runtime.start(order)
    waiting = asyncio.create_task(rig.runtime.wait(large.worker_id), name="wait for its end")
    async with asyncio.timeout(90):
        while not waiting.done():
            await rig.runtime.tend()
            await asyncio.sleep(0.02)

    with pytest.raises(BoundExceededError, match="in its local volume at /scratch") as raised:
        await waiting
    assert raised.value.reason is WorkerReason.DISK_EXCEEDED
    assert rig.runtime._disks.problem(small.worker_id) is None


@pytest.mark.nats
async def test_an_agent_looks_volumes_up_and_says_when_one_is_gone(
    nats_server: NatsServer,
) -> None:
    mounted = {"type": "network", "id": "vol-1", "mount_path": "/data", "read_only": True}
    spec = endpoint_spec("serve", storage={"volumes": [mounted]})
    host = FakeHost()
    async with agent_rig(nats_server) as rig:
        await rig.start(FakeRuntime(host, "docker"))
        gone = await rig.scheduler.assign(spec)
        status = await rig.scheduler.until_state(gone.worker_id, WorkerState.FAILED)
        assert status.reason is WorkerReason.VOLUME_UNAVAILABLE
        assert status.message == "volume vol-1 is gone; make another one and name that"
        assert not host.started

        source = HostPathSource(type="host_path", path="/mnt/shared")
        at = gone.decided_at
        record = VolumeRecord(
            volume_id="vol-1", name="v", source=source, created_at=at, updated_at=at
        )
        bus = await rig.bus("api")
        await Bucket(bus, subjects.VOLUMES).put("vol-1", record.encode())
        worker = await rig.scheduler.assign(spec)
        await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
        (mount,) = host.workers[worker.worker_id].order.mounts
        assert mount == VolumeMount("vol-1", source, "/data", read_only=True)
    await host.close()
