"""Container workers on a real Docker engine, beyond the contract."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_common.specs import LocalVolume
from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.runtimes import oom_kills
from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import BoundExceededError, Exit, StartFailedError
from tests.support.agent_rig import NODE, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.docker_workers import DockerWorkers, docker_workers
from tests.support.nats_server import NatsServer
from tests.support.requirements import require

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SERVER = (
    "import http.server, os; H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers()); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
SLEEP = ("python3", "-c", "import time; time.sleep(600)")


@pytest.fixture
async def rig() -> AsyncIterator[DockerWorkers]:
    async with docker_workers() as made:
        yield made


async def test_a_container_is_made_as_promised(rig: DockerWorkers) -> None:
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


async def test_a_disk_that_is_not_bounded_is_measured(rig: DockerWorkers) -> None:
    program = (
        "import os, time; f = open('/x', 'w'); os.posix_fallocate(f.fileno(), 0, {}); "
        "time.sleep(600)"
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
    async with asyncio.timeout(60):
        while not waiting.done():
            await rig.runtime.tend()
            await asyncio.sleep(0.02)

    with pytest.raises(BoundExceededError) as raised:
        await waiting
    assert raised.value.reason is WorkerReason.DISK_EXCEEDED
    assert rig.runtime._disks.problem(large.worker_id) is not None
    assert rig.runtime._disks.problem(small.worker_id) is None


async def test_workers_do_not_reach_one_another(rig: DockerWorkers) -> None:
    serving = rig.order("python3", "-c", SERVER)
    await rig.runtime.start(serving)
    inspected = await asyncio.to_thread(rig.inspect, serving.worker_id)
    address = inspected["NetworkSettings"]["Networks"]["penstock"]["IPAddress"]
    ask = f"import socket; socket.create_connection(({address!r}, 8000), 2)"
    asking = rig.order("python3", "-c", ask)

    await rig.runtime.start(asking)

    assert (await rig.runtime.wait(asking.worker_id)).code == 1
    assert "timed out" in (await rig.runtime.log_tail(asking.worker_id, 1))[0]


async def test_a_network_removed_behind_our_back_is_made_again(rig: DockerWorkers) -> None:
    order = rig.order(*SLEEP)
    assert await rig.runtime._try_create(order)
    with contextlib.suppress(APIError):  # another test's worker may use it
        await asyncio.to_thread(rig.engine.remove_network, "penstock")

    await rig.runtime.start(order)


@pytest.fixture
async def network(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The name of the workers' network, in this test alone; nothing has it at first."""
    name = f"penstock-test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(containers, "NETWORK", name)
    yield name
    engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
    for found in engine.networks(names=[name]):
        engine.remove_network(found["Id"])
    engine.close()


async def test_agents_that_start_at_once_make_one_network(network: str, rig: DockerWorkers) -> None:
    async with contextlib.AsyncExitStack() as stack:
        rigs = [rig, *[await stack.enter_async_context(docker_workers()) for _ in range(3)]]

        async with asyncio.TaskGroup() as group:
            for each in rigs:
                group.create_task(each.runtime.start(each.order(*SLEEP)))

        assert len(await asyncio.to_thread(rig.engine.networks, names=[network])) == 1


async def test_a_network_that_is_there_twice_is_left_once(network: str, rig: DockerWorkers) -> None:
    order = rig.order(*SLEEP)
    assert await rig.runtime._try_create(order)
    with contextlib.suppress(APIError):  # what a newer engine refuses
        label = {containers.MANAGED_LABEL: "1"}
        await asyncio.to_thread(rig.engine.create_network, network, labels=label)

    await rig.runtime.start(order)

    assert len(await asyncio.to_thread(rig.engine.networks, names=[network])) == 1


async def test_entrypoint_and_command_are_the_endpoints(rig: DockerWorkers) -> None:
    order = rig.order("print", "me", entrypoint=("echo", "entry"))
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    assert await rig.runtime.log_tail(order.worker_id, 5) == ("entry print me",)


async def test_local_volumes_live_and_die_with_the_worker(rig: DockerWorkers) -> None:
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


async def test_a_program_that_the_image_lacks_ends_the_worker(rig: DockerWorkers) -> None:
    order = rig.order("no-such-program")
    await rig.runtime.start(order)

    assert (await rig.runtime.wait(order.worker_id)).code == 127
    assert "no-such-program" in "".join(await rig.runtime.log_tail(order.worker_id, 5))


async def test_gpus_that_the_engine_cannot_give_are_refused(rig: DockerWorkers) -> None:
    with pytest.raises(StartFailedError, match="NVIDIA container toolkit") as raised:
        await rig.runtime.start(rig.order(*SLEEP, gpus=("GPU-12345678",)))
    assert raised.value.reason is WorkerReason.START_FAILED


async def test_a_container_created_before_a_crash_is_started_not_doubled(
    rig: DockerWorkers,
) -> None:
    order = rig.order(*SLEEP)
    assert await rig.runtime._try_create(order)  # then the agent died

    (found,) = await rig.runtime.list_workers()
    assert found.created_only
    await rig.runtime.start(order)

    (found,) = await rig.runtime.list_workers()
    assert found.address is not None


async def test_a_container_removed_behind_our_back_has_ended(rig: DockerWorkers) -> None:
    order = rig.order(*SLEEP)
    await rig.runtime.start(order)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.runtime.wait(order.worker_id))
        name = container_name(order.worker_id)
        await asyncio.to_thread(rig.engine.remove_container, name, force=True)

    assert waiting.result().code in (None, 137)


async def test_an_end_that_the_event_stream_missed_is_found_by_tending(rig: DockerWorkers) -> None:
    order = rig.order(*SLEEP)
    await rig.runtime.start(order)
    assert rig.runtime._deaths is not None
    await asyncio.to_thread(rig.runtime._deaths.stop)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.runtime.wait(order.worker_id))
        await asyncio.to_thread(rig.engine.kill, container_name(order.worker_id))
        while not waiting.done():
            await rig.runtime.tend()
            await asyncio.sleep(0.01)

    assert waiting.result().code == 137


async def test_a_kill_for_memory_is_told_though_the_engine_never_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What watches a container's memory may find it gone before it has read why."""
    require(oom_kills.oom_kill_count() is not None, "a kernel that counts kills for memory")
    read_exit = containers.read_exit

    def unheard(inspected: Mapping[str, Any]) -> Exit | None:
        ended = read_exit(inspected)
        return replace(ended, oom_killed=False) if ended is not None else None

    monkeypatch.setattr(containers, "read_exit", unheard)
    async with docker_workers(memory_bytes=48 * 1024**2, shm_bytes=1024**2) as rig:
        monkeypatch.setattr(rig.runtime._ends, "note_oom", lambda _: None)
        order = rig.order("python3", "-c", "b'x' * 10**9")
        await rig.runtime.start(order)

        assert await rig.runtime.wait(order.worker_id) == Exit(137, oom_killed=True)


async def test_a_container_that_no_worker_has_begun_is_removed(rig: DockerWorkers) -> None:
    """An engine that hung carries out a creation that its agent has long cleaned up after."""
    stray, kept = rig.order(*SLEEP), rig.order(*SLEEP)
    for order in (stray, kept):
        assert await rig.runtime._try_create(order)
    rig.runtime._ends.note(kept.worker_id)
    async with asyncio.timeout(60):
        while True:
            await rig.runtime.tend()
            await asyncio.sleep(0.01)
            found = {item.worker_id for item in await rig.runtime._list()}
            if stray.worker_id not in found:
                break
    assert found == {kept.worker_id}


async def test_the_nodes_images_are_listed(rig: DockerWorkers) -> None:
    assert IMAGE in await rig.runtime.images()


async def test_other_nodes_workers_are_not_ours(rig: DockerWorkers) -> None:
    await rig.runtime.start(rig.order(*SLEEP))
    other = DockerRuntime(
        DockerSettings(docker_host=docker_host(), node_id="node-other", address="127.0.0.1")
    )
    await other.open()
    assert await other.list_workers() == ()
    await other.close()


async def test_an_agent_runs_containers_and_takes_them_over(nats_server: NatsServer) -> None:
    node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
    settings = DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
    image = {"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'}
    async with agent_rig(nats_server) as rig:
        first = await rig.start(DockerRuntime(settings), stop_workers_on_exit=False)
        worker = await rig.scheduler.assign(endpoint_spec("", image=image))
        before = await rig.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
        await first.stop()

        await rig.start(DockerRuntime(settings))
        await rig.scheduler.want(worker, DesiredState.DRAINING)
        after = await rig.scheduler.until_state(worker.worker_id, WorkerState.DRAINING)
        assert after.port == before.port
        await rig.scheduler.want(worker, DesiredState.STOPPED)
        await rig.scheduler.until_state(worker.worker_id, WorkerState.STOPPED)
        await rig.scheduler.unassign(worker.worker_id)
        await rig.scheduler.until_gone(worker.worker_id)
