"""The probe on a real driver, beside what nvidia-smi says."""

import asyncio
import csv
import os
import re
import shutil
from collections.abc import AsyncIterator

import pynvml
import pytest

from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.gpus.nvml_read import read_all
from tests.fakes.recorded_nvml import RecordedNvml
from tests.gpu.rig import WORKER, until, worker_env
from tests.support.record_nvml import record

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

#: Products whose ids are known for sure, by NVML's name.
KNOWN = {
    "NVIDIA H100 80GB HBM3": "h100-80gb",
    "NVIDIA H100 PCIe": "h100-80gb",
    "NVIDIA H100 NVL": "h100-nvl-94gb",
    "NVIDIA H200": "h200-141gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA L4": "l4-24gb",
    "NVIDIA L40S": "l40s-48gb",
    "Tesla T4": "t4-16gb",
    "NVIDIA GeForce RTX 4090": "rtx-4090-24gb",
}


@pytest.fixture
async def probe() -> AsyncIterator[NvmlProbe]:
    made = NvmlProbe()
    yield made
    await made.close()


async def nvidia_smi(fields: str) -> list[list[str]]:
    """A row for each GPU, as nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("SKIPPED: this machine lacks nvidia-smi")
    process = await asyncio.create_subprocess_exec(
        "nvidia-smi",
        f"--query-gpu={fields}",
        "--format=csv,noheader,nounits",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return list(csv.reader(out.decode().splitlines(), skipinitialspace=True))


async def test_gpus_are_what_nvidia_smi_lists(probe: NvmlProbe) -> None:
    inventory = await probe.inventory()
    rows = await nvidia_smi("uuid,name,memory.total,driver_version,mig.mode.current")
    whole = [row for row in rows if row[4] != "Enabled"]

    found = [gpu for gpu in inventory.gpus if gpu.parent is None]
    assert [gpu.uuid for gpu in found] == [row[0] for row in whole]
    for gpu, (_, name, mib, driver, _mig) in zip(found, whole, strict=True):
        assert gpu.product == KNOWN.get(name, gpu.product)
        assert abs(gpu.vram_bytes - int(mib) * 1024**2) <= 1024**2
        assert inventory.driver_version == driver


async def test_what_is_measured_is_sane(probe: NvmlProbe) -> None:
    inventory = await probe.inventory()

    assert inventory.gpus
    assert not inventory.static
    assert re.fullmatch(r"\d+\.\d+(\.\d+)*", inventory.driver_version or "")
    assert re.fullmatch(r"\d+\.\d", inventory.cuda_version or "")
    for gpu in inventory.gpus:
        assert re.fullmatch(r"(GPU|MIG)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", gpu.uuid)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-\d+gb", gpu.product)
        assert (gpu.reason is None) == (gpu.message is None)
        measured = inventory.readings[gpu.uuid]
        assert measured.memory_used_bytes is not None
        assert measured.memory_free_bytes is not None
        assert 0 <= measured.memory_used_bytes <= gpu.vram_bytes
        assert (
            0 <= measured.memory_free_bytes <= gpu.vram_bytes - measured.memory_used_bytes + 2**30
        )
        if gpu.parent is None:
            assert measured.utilization_ratio is not None
            assert 0 <= measured.utilization_ratio <= 1
            assert measured.temperature_c is not None
            assert 5 <= measured.temperature_c <= 100
            assert measured.power_w is None or 1 <= measured.power_w <= 2_000
            assert measured.xids == ()


async def test_readings_go_on_and_nothing_is_lost(probe: NvmlProbe) -> None:
    first = await probe.inventory()
    for _ in range(5):
        again = await probe.inventory()
        assert again.gpus == first.gpus


async def test_a_kernel_that_faults_costs_nobody_the_gpu(probe: NvmlProbe) -> None:
    """The driver tells XID 31, a page fault of an application."""
    if os.environ.get("PENSTOCK_GPU_FAULTS") != "1":
        pytest.skip("SKIPPED: it makes the driver report an error; set PENSTOCK_GPU_FAULTS=1")
    (first, *_) = (await probe.inventory()).gpus
    told: list[int] = []
    probe.on_news = lambda: told.append(1)
    worker = await asyncio.create_subprocess_shell(
        f"exec {WORKER}",
        env={**os.environ, **worker_env(), "CUDA_VISIBLE_DEVICES": first.uuid, "PORT": "28765"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert worker.stdout is not None
        assert await asyncio.wait_for(worker.stdout.readline(), 60)
        reader, writer = await asyncio.open_connection("127.0.0.1", 28765)
        writer.write(b"GET /fault HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"CUDA_ERROR_ILLEGAL_ADDRESS" in await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await until(lambda: bool(told), "the driver tells an XID")
    finally:
        if worker.returncode is None:
            worker.terminate()
        await worker.wait()
    inventory = await probe.inventory()
    assert 31 in inventory.readings[first.parent or first.uuid].xids
    assert all(gpu.healthy for gpu in inventory.gpus)


async def test_the_driver_lets_us_listen_to_its_errors(probe: NvmlProbe) -> None:
    whole = {gpu.parent or gpu.uuid for gpu in (await probe.inventory()).gpus}
    listeners = probe._session._listeners
    assert set(listeners) == whole
    assert all(listener._thread.is_alive() for listener in listeners.values())


def test_the_recorder_records_a_machine_that_can_be_replayed() -> None:
    replayed = RecordedNvml(record(pynvml))
    readout, _ = read_all(replayed, None)
    pynvml.nvmlInit()
    try:
        live, _ = read_all(pynvml, None)
    finally:
        pynvml.nvmlShutdown()
    assert readout.devices == live.devices
    assert readout.uuids == live.uuids
    assert readout.driver_version == live.driver_version
