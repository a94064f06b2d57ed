"""What was recorded of a driver is what a replay tells."""

import json

import pynvml
import pytest

from penstock_node_agent.gpus.nvml_read import Readout, read_all
from tests.fakes.nvml import FakeGpu, FakeInstance, FakeNvml
from tests.fakes.recorded_nvml import RecordedNvml
from tests.support.record_nvml import RecordingNvml


def record_readings(nvml: FakeNvml) -> tuple[Readout, RecordedNvml]:
    """What is read, and a replay of the calls that it took."""
    recording = RecordingNvml(nvml)
    readout, _ = read_all(recording, None)
    text = json.dumps({"moments": [{"name": "idle", "calls": recording.calls}]})
    return readout, RecordedNvml(json.loads(text))


@pytest.mark.parametrize(
    "gpus",
    [
        [FakeGpu("GPU-0", "NVIDIA H100 80GB HBM3", 81_559 * 1024**2)],
        [FakeGpu("GPU-0", rows=(1, 0, 1, 0)), FakeGpu("GPU-1", rows=None, recovery_action=None)],
        [FakeGpu("GPU-0", error=pynvml.NVML_ERROR_GPU_IS_LOST), FakeGpu("GPU-1", numa_node=70)],
        [FakeGpu("GPU-0", instances=[FakeInstance("MIG-0"), FakeInstance("MIG-1", "2g.20gb")])],
    ],
)
def test_a_replay_tells_what_was_read(gpus: list[FakeGpu]) -> None:
    read, replayed = record_readings(FakeNvml(gpus, nvlinks={(0, 1)}))
    again, _ = read_all(replayed, None)
    assert again == read
    assert len(read.devices) + len(read.unread) >= 1


def test_a_call_that_was_not_recorded_fails() -> None:
    _, replayed = record_readings(FakeNvml([FakeGpu("GPU-0")]))
    with pytest.raises(AssertionError, match="never recorded: nvmlDeviceGetSerial"):
        replayed.nvmlDeviceGetSerial("gpu:0")
