import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from penstock_node_agent.gpus import GpuInventory
from penstock_node_agent.nvml_probe import NvmlProbe
from tests.fakes.nvml import FakeGpu, FakeNvml


@pytest.fixture
def nvml() -> Iterator[FakeNvml]:
    made = FakeNvml([FakeGpu(f"GPU-{n}") for n in range(4)])
    yield made
    made.answers.set()
    for thread in threading.enumerate():
        if thread.name == "nvml":
            thread.join(5)


async def test_gpus_are_named_and_versions_read(nvml: FakeNvml) -> None:
    inventory = await NvmlProbe(lambda: nvml).inventory()

    assert [(g.uuid, g.product, g.healthy) for g in inventory.gpus][:2] == [
        ("GPU-0", "rtx-4090-24gb", True),
        ("GPU-1", "rtx-4090-24gb", True),
    ]
    assert (inventory.driver_version, inventory.cuda_version) == ("570.86.15", "12.8")
    assert not inventory.static
    assert nvml.open == 0


async def test_gpus_behind_one_switch_or_nvlink_form_a_group(nvml: FakeNvml) -> None:
    nvml.nvlinks = {(0, 1)}
    nvml.switches = {(2, 3)}

    inventory = await NvmlProbe(lambda: nvml).inventory()

    assert [gpu.link_group for gpu in inventory.gpus] == [0, 0, 2, 2]


async def test_no_driver_means_no_gpus(nvml: FakeNvml) -> None:
    nvml.driver = False
    assert await NvmlProbe(lambda: nvml).inventory() == GpuInventory()


async def test_no_library_means_no_gpus() -> None:
    def load() -> ModuleType:
        raise ImportError("no pynvml")

    assert await NvmlProbe(load).inventory() == GpuInventory()


async def test_a_gpu_that_fell_off_the_bus_is_left_out(nvml: FakeNvml) -> None:
    nvml.gpus[1].lost = True

    inventory = await NvmlProbe(lambda: nvml).inventory()

    assert [gpu.uuid for gpu in inventory.gpus] == ["GPU-0", "GPU-2", "GPU-3"]


async def test_a_driver_that_hangs_makes_its_gpus_unhealthy_and_holds_nobody_up(
    nvml: FakeNvml,
) -> None:
    probe = NvmlProbe(lambda: nvml, timeout_s=0.05)
    whole = await probe.inventory()
    nvml.answers.clear()

    for _ in range(3):
        hung = await probe.inventory()
        assert [gpu.healthy for gpu in hung.gpus] == [False] * 4
    assert sum(thread.name == "nvml" for thread in threading.enumerate()) == 1

    nvml.answers.set()
    probe._timeout_s = 5
    assert await probe.inventory() == whole


async def test_the_real_library_without_a_driver_is_no_error() -> None:
    inventory = await NvmlProbe().inventory()
    assert inventory.driver_version is None or inventory.gpus
