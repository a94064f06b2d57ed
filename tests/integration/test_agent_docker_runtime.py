"""Container workers on a real Docker engine, beyond the contract."""

import asyncio
import contextlib
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from docker import APIClient
from docker.errors import APIError

from penstock_common import entropy, ids
from penstock_common.specs import LocalVolume
from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    Progress,
    StartFailedError,
    StartOrder,
)
from tests.support.agent_rig import NODE, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer, free_port

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SERVER = (
    "import http.server, os; H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers()); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
SLEEP = ("python3", "-c", "import time; time.sleep(60)")


class Rig:
    def __init__(self, node_id: str) -> None:
        self.settings = DockerSettings(
            docker_host=docker_host(),
            node_id=node_id,
            address="127.0.0.1",
            pull_pauses_s=(0.0, 0.0),
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


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig(f"node-{uuid.uuid4().hex[:8]}")
    await made.runtime.open()
    yield made
    for worker_id in made.ordered:
        await made.runtime.stop(worker_id, 0)
        await made.runtime.remove(worker_id)
    await made.runtime.close()
    made.engine.close()


async def test_a_container_is_made_as_promised(rig: Rig) -> None:
    order = rig.order(*SLEEP)
    await rig.runtime.start(order)

    inspected = await asyncio.to_thread(rig.inspect, order.worker_id)

    host, config = inspected["HostConfig"], inspected["Config"]
    assert config["Labels"] == {
        "penstock.managed": "1",
        "penstock.node": rig.settings.node_id,
        "penstock.worker": order.worker_id,
        "penstock.endpoint": "ep-1",
        "penstock.revision": "2",
    }
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert sorted(host["CapDrop"]) == ["MKNOD", "NET_RAW", "SETFCAP"]
    assert host["NetworkMode"] == "penstock"
    assert host["PidsLimit"] == 16_384
    assert host["ShmSize"] == 1024**3
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-file": "2", "max-size": "10m"}}
    assert host["Init"] is True
    assert host["RestartPolicy"]["Name"] == "no"
    assert inspected["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostIp"] == "127.0.0.1"


async def test_a_disk_that_is_not_bounded_is_measured(rig: Rig) -> None:
    program = (
        "import os, time; f = open('/x', 'w'); os.posix_fallocate(f.fileno(), 0, {}); "
        "time.sleep(60)"
    )
    large, small = [
        rig.order("python3", "-c", program.format(size), disk_bytes=2_000_000)
        for size in (3_000_000, 1_000_000)
    ]
    for order in (large, small):
        await rig.runtime.start(order)
    if rig.runtime._maker._abilities.disk_quota:
        pytest.skip("this engine's storage driver bounds disks itself")
    waiting = asyncio.create_task(rig.runtime.wait(large.worker_id), name="wait for its end")
    async with asyncio.timeout(30):
        while not waiting.done():
            await rig.runtime.tend()
            await asyncio.sleep(0.02)

    with pytest.raises(BoundExceededError) as raised:
        await waiting
    assert raised.value.reason is WorkerReason.DISK_EXCEEDED
    assert rig.runtime._disks.problem(large.worker_id) is not None
    assert rig.runtime._disks.problem(small.worker_id) is None


async def test_workers_do_not_reach_one_another(rig: Rig) -> None:
    serving = rig.order("python3", "-c", SERVER)
    await rig.runtime.start(serving)
    inspected = await asyncio.to_thread(rig.inspect, serving.worker_id)
    address = inspected["NetworkSettings"]["Networks"]["penstock"]["IPAddress"]
    ask = f"import socket; socket.create_connection(({address!r}, 8000), 2)"
    asking = rig.order("python3", "-c", ask)

    await rig.runtime.start(asking)

    assert (await rig.runtime.wait(asking.worker_id)).code == 1
    assert "timed out" in (await rig.runtime.log_tail(asking.worker_id, 1))[0]


async def test_a_network_removed_behind_our_back_is_made_again(rig: Rig) -> None:
    order = rig.order(*SLEEP)
    assert await rig.runtime._try_create(order)
    with contextlib.suppress(APIError):  # another test's worker may use it
        await asyncio.to_thread(rig.engine.remove_network, "penstock")

    await rig.runtime.start(order)


async def test_entrypoint_and_command_are_the_endpoints(rig: Rig) -> None:
    order = rig.order("print", "me", entrypoint=("echo", "entry"))
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    assert await rig.runtime.log_tail(order.worker_id, 5) == ("entry print me",)


async def test_local_volumes_live_and_die_with_the_worker(rig: Rig) -> None:
    order = rig.order(
        *("python3", "-c", "open('/data/x', 'w').write('1'); print(open('/data/x').read())"),
        volumes=(LocalVolume(type="local", mount_path="/data"),),
    )
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    assert await rig.runtime.log_tail(order.worker_id, 1) == ("1",)

    def volumes() -> Any:
        label = f"penstock.worker={order.worker_id}"
        return rig.engine.volumes(filters={"label": label})["Volumes"]

    assert len(await asyncio.to_thread(volumes)) == 1
    await rig.runtime.remove(order.worker_id)
    assert not await asyncio.to_thread(volumes)


async def test_a_program_that_the_image_lacks_ends_the_worker(rig: Rig) -> None:
    order = rig.order("no-such-program")
    await rig.runtime.start(order)

    assert (await rig.runtime.wait(order.worker_id)).code == 127
    assert "no-such-program" in "".join(await rig.runtime.log_tail(order.worker_id, 5))


async def test_gpus_that_the_engine_cannot_give_are_refused(rig: Rig) -> None:
    with pytest.raises(StartFailedError, match="NVIDIA container toolkit") as raised:
        await rig.runtime.start(rig.order(*SLEEP, gpus=("GPU-12345678",)))
    assert raised.value.reason is WorkerReason.START_FAILED


async def test_a_container_created_before_a_crash_is_started_not_doubled(rig: Rig) -> None:
    order = rig.order(*SLEEP)
    assert await rig.runtime._try_create(order)  # then the agent died

    (found,) = await rig.runtime.list_workers()
    assert found.created_only
    await rig.runtime.start(order)

    (found,) = await rig.runtime.list_workers()
    assert found.address is not None


async def test_a_container_removed_behind_our_back_has_ended(rig: Rig) -> None:
    order = rig.order(*SLEEP)
    await rig.runtime.start(order)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.runtime.wait(order.worker_id))
        name = container_name(order.worker_id)
        await asyncio.to_thread(rig.engine.remove_container, name, force=True)

    assert waiting.result().code in (None, 137)


async def test_an_end_that_the_event_stream_missed_is_found_by_tending(rig: Rig) -> None:
    order = rig.order(*SLEEP)
    await rig.runtime.start(order)
    assert rig.runtime._deaths is not None
    await asyncio.to_thread(rig.runtime._deaths.stop)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.runtime.wait(order.worker_id))
        await asyncio.to_thread(rig.engine.kill, container_name(order.worker_id))
        while not waiting.done():
            await rig.runtime.tend()
            await asyncio.sleep(0.01)

    assert waiting.result().code == 137


async def test_a_container_that_no_worker_has_begun_is_removed(rig: Rig) -> None:
    """An engine that hung carries out a creation that its agent has long cleaned up after."""
    stray, kept = rig.order(*SLEEP), rig.order(*SLEEP)
    for order in (stray, kept):
        assert await rig.runtime._try_create(order)
    rig.runtime._ends.note(kept.worker_id)
    async with asyncio.timeout(30):
        while True:
            await rig.runtime.tend()
            await asyncio.sleep(0.01)
            found = {item.worker_id for item in await rig.runtime._list()}
            if stray.worker_id not in found:
                break
    assert found == {kept.worker_id}


async def test_the_nodes_images_are_listed(rig: Rig) -> None:
    assert IMAGE in await rig.runtime.images()


async def test_other_nodes_workers_are_not_ours(rig: Rig) -> None:
    await rig.runtime.start(rig.order(*SLEEP))
    other = DockerRuntime(
        DockerSettings(docker_host=docker_host(), node_id="node-other", address="127.0.0.1")
    )
    await other.open()
    assert await other.list_workers() == ()
    await other.close()


class Registry:
    """A registry with one small image, or with nothing but refusals."""

    def __init__(self) -> None:
        self.port = free_port()
        #: answers every request when set
        self.refusal: tuple[int, str] | None = None
        #: so many requests are refused, then none
        self.refusals = 1_000_000
        #: cleared = no manifest is given out
        self.gate = asyncio.Event()
        self.gate.set()
        self.manifests = 0
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("empty"))
        layer_data = layer.getvalue()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/nothing"], "Labels": {"made": uuid.uuid4().hex}},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer_data)]},
        }
        config_data = json.dumps(config).encode()
        prefix = "application/vnd.docker"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{prefix}.distribution.manifest.v2+json",
                "config": {
                    "mediaType": f"{prefix}.container.image.v1+json",
                    "size": len(config_data),
                    "digest": _digest(config_data),
                },
                "layers": [
                    {
                        "mediaType": f"{prefix}.image.rootfs.diff.tar",
                        "size": len(layer_data),
                        "digest": _digest(layer_data),
                    }
                ],
            }
        ).encode()
        self.blobs = {_digest(data): data for data in (layer_data, config_data)}

    async def answer(self, request: web.Request) -> web.Response:
        if self.refusal is not None and self.refusals > 0 and request.path != "/v2/":
            self.refusals -= 1
            status, code = self.refusal
            return web.json_response({"errors": [{"code": code, "message": code}]}, status=status)
        kind, _, name = request.path.rpartition("/")
        if kind.endswith("/manifests"):
            if request.method == "GET":
                self.manifests += 1
            await self.gate.wait()
            return web.Response(
                body=self.manifest,
                content_type="application/vnd.docker.distribution.manifest.v2+json",
                headers={"Docker-Content-Digest": _digest(self.manifest)},
            )
        if name in self.blobs:
            return web.Response(body=self.blobs[name], content_type="application/octet-stream")
        return web.Response(headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield f"127.0.0.1:{self.port}/small:1"
        finally:
            await runner.cleanup()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_an_absent_image_is_pulled(rig: Rig, registry: Registry) -> None:
    seen: list[Progress] = []
    async with registry.serving() as image:
        order = rig.order(image=image)
        await rig.runtime.start(order, seen.append)

    assert seen == [Progress.PULLING, Progress.PULLED, Progress.CREATED, Progress.STARTED]
    assert image in await rig.runtime.images()
    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


async def test_workers_of_one_image_share_its_pull(rig: Rig, registry: Registry) -> None:
    registry.gate.clear()
    async with registry.serving() as image, asyncio.timeout(30):
        pulling = asyncio.Semaphore(0)
        orders = [rig.order(image=image) for _ in range(3)]

        def tell(progress: Progress) -> None:
            if progress is Progress.PULLING:
                pulling.release()

        starts = [asyncio.create_task(rig.runtime.start(o, tell), name="start") for o in orders]
        for _ in orders:
            await pulling.acquire()
        starts[0].cancel()  # the others still want it
        registry.gate.set()
        results = await asyncio.gather(*starts, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(isinstance(result, Exception) for result in results[1:])
    assert registry.manifests == 1
    assert rig.runtime._puller._pulls == {}
    for order in orders[1:]:
        await rig.runtime.wait(order.worker_id)
        await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


async def test_a_registry_that_stumbles_is_asked_again(rig: Rig, registry: Registry) -> None:
    registry.refusal = (503, "UNAVAILABLE")
    registry.refusals = 1
    async with registry.serving() as image:
        order = rig.order(image=image)
        await rig.runtime.start(order)

    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ((404, "MANIFEST_UNKNOWN"), WorkerReason.IMAGE_NOT_FOUND),
        ((401, "UNAUTHORIZED"), WorkerReason.REGISTRY_AUTH_FAILED),
        # Said of repositories that do not exist, too; the message tells both.
        ((403, "DENIED"), WorkerReason.IMAGE_NOT_FOUND),
        ((503, "UNAVAILABLE"), WorkerReason.REGISTRY_UNREACHABLE),
    ],
)
async def test_a_registrys_refusal_is_understood(
    rig: Rig, registry: Registry, refusal: tuple[int, str], reason: WorkerReason
) -> None:
    registry.refusal = refusal
    async with registry.serving() as image:
        with pytest.raises(StartFailedError) as raised:
            await rig.runtime.start(rig.order(image=image))
    assert raised.value.reason is reason, str(raised.value)


async def test_a_registry_that_is_away_is_said(rig: Rig) -> None:
    with pytest.raises(StartFailedError) as raised:
        await rig.runtime.start(rig.order(image=f"127.0.0.1:{free_port()}/x:1"))
    assert raised.value.reason is WorkerReason.REGISTRY_UNREACHABLE


async def test_an_agent_runs_containers_and_takes_them_over(nats_server: NatsServer) -> None:
    settings = DockerSettings(docker_host=docker_host(), node_id=NODE, address="127.0.0.1")
    image = {"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'}
    async with agent_rig(nats_server) as rig:
        first = await rig.start(DockerRuntime(settings), stop_workers_on_exit=False)
        worker = await rig.scheduler.assign(endpoint_spec("", image=image))
        before = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING, 30)
        await first.stop()

        await rig.start(DockerRuntime(settings))
        await rig.scheduler.want(worker, DesiredState.DRAINING)
        after = await rig.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
        assert after.port == before.port
        await rig.scheduler.want(worker, DesiredState.STOPPED)
        await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED, 20)
        await rig.scheduler.unassign(worker.worker_id)
        await rig.scheduler.until_gone(worker.worker_id, 20)
