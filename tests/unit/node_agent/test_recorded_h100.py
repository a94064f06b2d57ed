"""The probe on what a real H100 told, at rest and while a worker computed on it."""

import asyncio
from pathlib import Path

import pynvml
import pytest

from penstock_common.messages import Gpu
from penstock_common.states import GpuReason
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.gpus.nvml_read import Readout, read_all
from tests.fakes.recorded_nvml import RecordedNvml

RECORDING = Path(__file__).parents[2] / "fixtures/nvml/h100-80gb.json"
UUID = "GPU-00000000-0000-4000-8000-000000000001"


def readout(moment: str) -> Readout:
    found, _ = read_all(RecordedNvml.load(RECORDING, moment), None)
    return found


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_it_is_one_healthy_gpu(moment: str) -> None:
    found = readout(moment)
    assert (found.driver_version, found.cuda_version) == ("580.159.04", "13.0")
    assert found.unread == ()
    (device,) = found.devices
    assert device.gpu == Gpu(
        uuid=UUID, product="h100-80gb", vram_bytes=85_520_809_984, link_group=0, numa_node=0
    )


def test_a_worker_shows_in_what_is_measured() -> None:
    idle, busy = readout("idle").readings[UUID], readout("busy").readings[UUID]
    assert idle.memory_used_bytes is not None
    assert busy.memory_used_bytes is not None
    # Its ballast, and CUDA's context on top.
    assert 1_000_000_000 <= busy.memory_used_bytes - idle.memory_used_bytes <= 2_000_000_000
    assert idle.temperature_c == 33
    assert idle.power_w == pytest.approx(109.434)


async def reason(probe: NvmlProbe) -> GpuReason | None:
    (gpu,) = (await probe.inventory()).gpus
    return gpu.reason


async def test_it_goes_bad_in_every_way_and_recovers() -> None:
    """The driver's own forms of its answers, with other numbers in them."""
    nvml = RecordedNvml.load(RECORDING)
    gpu = {"handle": "gpu:0"}
    probe = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=60)
    assert await reason(probe) is None

    nvml.change("nvmlDeviceGetTotalEccErrors", [gpu, 1, 0], 2)
    assert await reason(probe) is GpuReason.MEMORY_ERRORS
    nvml.change("nvmlDeviceGetRemappedRows", [gpu], [0, 1, 1, 0])
    assert await reason(probe) is GpuReason.REPAIR_PENDING
    nvml.change("nvmlDeviceGetRemappedRows", [gpu], [0, 1, 0, 1])
    assert await reason(probe) is GpuReason.REPAIR_FAILED
    value = {"nvmlReturn": 0, "value": {"uiVal": pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT}}
    nvml.change("nvmlDeviceGetFieldValues", [gpu, [230]], [value])
    assert await reason(probe) is GpuReason.RESET_REQUIRED
    nvml.fail("gpu:0", pynvml.NVML_ERROR_GPU_IS_LOST)
    assert await reason(probe) is GpuReason.LOST

    nvml.mend("gpu:0")
    nvml.change("nvmlDeviceGetTotalEccErrors", [gpu, 1, 0], 0)
    nvml.change("nvmlDeviceGetRemappedRows", [gpu], [0, 1, 0, 0])
    nvml.change("nvmlDeviceGetFieldValues", [gpu, [230]], [value | {"value": {"uiVal": 0}}])
    assert await reason(probe) is None
    await probe.close()
    async with asyncio.timeout(60):  # the probe itself waits a second at most
        while nvml.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_its_errors_are_heard() -> None:
    nvml = RecordedNvml.load(RECORDING)
    probe = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=60)
    told = asyncio.Event()
    probe.on_news = told.set
    await probe.inventory()

    nvml.tell_xid("gpu:0", 31)
    async with asyncio.timeout(60):
        await told.wait()
    assert await reason(probe) is None
    told.clear()
    nvml.tell_xid("gpu:0", 119)
    async with asyncio.timeout(60):
        await told.wait()
    assert await reason(probe) is GpuReason.XID
    assert (await probe.inventory()).readings[UUID].xids == (31, 119)
    await probe.close()
