"""What containers are promised about GPUs, by each way that an engine gives them.

CDI needs an engine of Docker 28.2 or newer; where the tests' engine is older, its request is
checked in `tests/unit/node_agent/test_docker_gpus.py` alone.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from penstock_common import entropy, ids
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.gpus import GpuWay
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import StartOrder
from tests.support.docker_engine import IMAGE
from tests.support.gpu_engine import GpuEngine, gpu_engine

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: Which stand-in hands out the GPUs.
GIVER = {"runtime": "runtime", "device_request": "hook"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuEngine]:
    with gpu_engine(tmp_path_factory.mktemp("engine")) as made:
        yield made


class Rig:
    def __init__(self, engine: GpuEngine, way: GpuWay | None) -> None:
        self.engine = engine
        self.giver = GIVER.get(way or "", "runtime")
        self.runtime = DockerRuntime(
            DockerSettings(
                docker_host=engine.host,
                node_id=f"node-{uuid.uuid4().hex[:8]}",
                address="127.0.0.1",
                gpu_way=way,
            )
        )
        self._ordered: list[str] = []

    async def start(self, **changes: Any) -> tuple[str, dict[str, str]]:
        """Container id, and the variables that its program saw."""
        worker_id = entropy.random_id(ids.WORKER)
        self._ordered.append(worker_id)
        program = "import os; print(*[f'{k}={v}' for k, v in os.environ.items()], sep='\\n')"
        fields: dict[str, Any] = {
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "revision": 1,
            "image": IMAGE,
            "entrypoint": (),
            "command": ("python3", "-c", program),
            "http_port": 8000,
            "env": {},
        }
        await self.runtime.start(StartOrder(**fields | changes))
        await self.runtime.wait(worker_id)
        lines = await self.runtime.log_tail(worker_id, 100)
        inspected = await asyncio.to_thread(
            self.engine.client.inspect_container, container_name(worker_id)
        )
        return inspected["Id"], dict(line.split("=", 1) for line in lines if "=" in line)

    async def clean(self) -> None:
        for worker_id in self._ordered:
            await self.runtime.remove(worker_id)
        await self.runtime.close()


@pytest.fixture(params=["runtime", "device_request"])
async def rig(request: pytest.FixtureRequest, engine: GpuEngine) -> AsyncIterator[Rig]:
    made = Rig(engine, request.param)
    await made.runtime.open()
    yield made
    await made.clean()


async def test_a_worker_gets_its_gpus_and_no_other(rig: Rig) -> None:
    container_id, seen = await rig.start(
        gpus=("GPU-a", "GPU-b"), env={"NVIDIA_VISIBLE_DEVICES": "all"}
    )

    given = rig.engine.given(rig.giver, container_id)
    for variables in (given, seen):
        assert variables["NVIDIA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
        assert capabilities(variables) == {"compute", "utility"}


async def test_an_endpoint_may_ask_for_more_of_the_driver(rig: Rig) -> None:
    wanted = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video"}

    container_id, _ = await rig.start(gpus=("GPU-a",), env=wanted)

    given = rig.engine.given(rig.giver, container_id)
    assert capabilities(given) == {"compute", "utility", "video"}


async def test_a_worker_without_gpus_is_given_none(rig: Rig) -> None:
    container_id, seen = await rig.start(env={"NVIDIA_VISIBLE_DEVICES": "all"})

    assert seen["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not rig.engine.was_given(rig.giver, container_id)


async def test_gpus_of_a_list_go_past_the_driver(rig: Rig) -> None:
    container_id, seen = await rig.start(gpus=("static-0", "static-3"))

    assert seen["CUDA_VISIBLE_DEVICES"] == "static-0,static-3"
    assert not rig.engine.was_given(rig.giver, container_id)


async def test_an_engine_that_lists_the_runtime_is_used_by_it(engine: GpuEngine) -> None:
    rig = Rig(engine, None)
    await rig.runtime.open()
    container_id, _ = await rig.start(gpus=("GPU-a",))
    await rig.clean()

    assert engine.was_given("runtime", container_id)
    assert not engine.was_given("hook", container_id)


def capabilities(variables: Mapping[str, str]) -> set[str]:
    return set(variables["NVIDIA_DRIVER_CAPABILITIES"].split(","))
