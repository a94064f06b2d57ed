"""The probe on what a real H100 told, at rest and while a worker computed on it."""

from pathlib import Path

import pytest

from penstock_common.messages import Gpu
from penstock_node_agent.nvml_read import Readout, read_all
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
