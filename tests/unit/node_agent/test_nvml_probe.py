import asyncio
import threading
from collections.abc import AsyncIterator
from types import ModuleType

import pynvml
import pytest

from penstock_common.states import GpuReason
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.gpus.nvml_events import XidListener
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from tests.fakes.nvml import FakeGpu, FakeInstance, FakeNvml


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml([FakeGpu(f"GPU-{n}") for n in range(4)])


@pytest.fixture
async def probe(nvml: FakeNvml) -> AsyncIterator[NvmlProbe]:
    made = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=60)
    yield made
    nvml.answers.set()
    await made.close()
    await let_go(nvml)


async def let_go(nvml: FakeNvml) -> None:
    """Return once nothing is left of a probe that was closed, which waits for that a second at most."""
    async with asyncio.timeout(60):
        while nvml.open or any(t.name.startswith("xids") for t in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def reasons(inventory: GpuInventory) -> dict[str, GpuReason | None]:
    return {gpu.uuid: gpu.reason for gpu in inventory.gpus}


async def test_gpus_are_named_and_versions_read(probe: NvmlProbe) -> None:
    inventory = await probe.inventory()

    assert [(g.uuid, g.product, g.healthy) for g in inventory.gpus][:2] == [
        ("GPU-0", "rtx-4090-24gb", True),
        ("GPU-1", "rtx-4090-24gb", True),
    ]
    assert (inventory.driver_version, inventory.cuda_version) == ("570.86.15", "12.8")
    assert not inventory.static


async def test_gpus_tell_what_they_measure(probe: NvmlProbe) -> None:
    measured = (await probe.inventory()).readings["GPU-3"]

    assert measured.memory_used_bytes == 500_000_000
    assert measured.memory_free_bytes == 25_757_220_864 - 500_000_000
    assert measured.utilization_ratio == 0.37
    assert measured.temperature_c == 41
    assert measured.power_w == 71.5
    assert measured.uncorrectable_errors == 0


async def test_nvml_is_held_open_between_readings(nvml: FakeNvml, probe: NvmlProbe) -> None:
    for _ in range(3):
        await probe.inventory()
        assert nvml.open == 1


async def test_gpus_behind_one_switch_or_nvlink_form_a_group(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    nvml.nvlinks = {(0, 1)}
    nvml.switches = {(2, 3)}
    nvml.gpus[3].numa_node = 1

    inventory = await probe.inventory()

    assert [gpu.link_group for gpu in inventory.gpus] == [0, 0, 2, 2]
    assert [gpu.numa_node for gpu in inventory.gpus] == [0, 0, 0, 1]


async def test_many_may_ask_at_once(nvml: FakeNvml, probe: NvmlProbe) -> None:
    """As when a node's workers end together, and each looks whether its GPUs are to blame."""
    whole = await probe.inventory()
    assert await asyncio.gather(*(probe.inventory() for _ in range(5))) == [whole] * 5
    nvml.gpus[1].error = pynvml.NVML_ERROR_GPU_IS_LOST
    for inventory in await asyncio.gather(*(probe.inventory() for _ in range(5))):
        assert reasons(inventory)["GPU-1"] is GpuReason.LOST


async def test_no_driver_means_no_gpus(nvml: FakeNvml, probe: NvmlProbe) -> None:
    nvml.driver = False
    assert await probe.inventory() == GpuInventory()

    nvml.driver = True
    assert len((await probe.inventory()).gpus) == 4


async def test_no_library_means_no_gpus() -> None:
    def load() -> ModuleType:
        raise ImportError("no pynvml")

    probe = NvmlProbe(load)
    assert await probe.inventory() == GpuInventory()
    await probe.close()


async def test_a_gpu_that_falls_off_the_bus_stays_and_says_so(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    whole = await probe.inventory()
    nvml.gpus[1].error = pynvml.NVML_ERROR_GPU_IS_LOST

    inventory = await probe.inventory()

    assert [gpu.uuid for gpu in inventory.gpus] == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    lost = inventory.gpus[1]
    assert (lost.reason, lost.product) == (GpuReason.LOST, "rtx-4090-24gb")
    assert lost.message == "it has fallen off the bus: GPU is lost"
    assert "GPU-1" not in inventory.readings
    assert inventory.gpus[0] == whole.gpus[0]


async def test_a_gpu_that_the_driver_no_longer_lists_is_lost(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    await probe.inventory()
    nvml.gpus.pop()
    assert reasons(await probe.inventory())["GPU-3"] is GpuReason.LOST


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": pynvml.NVML_ERROR_RESET_REQUIRED}, GpuReason.RESET_REQUIRED),
        ({"error": pynvml.NVML_ERROR_UNKNOWN}, GpuReason.NOT_ANSWERING),
        ({"uncorrectable_errors": 1}, GpuReason.MEMORY_ERRORS),
        ({"rows": (0, 1, 1, 0)}, GpuReason.REPAIR_PENDING),
        ({"rows": (0, 1, 0, 1)}, GpuReason.REPAIR_FAILED),
        ({"rows": None, "pages_pending": True}, GpuReason.REPAIR_PENDING),
        ({"recovery_action": 1}, GpuReason.RESET_REQUIRED),
    ],
)
async def test_what_the_driver_holds_against_a_gpu_counts_until_it_ends(
    nvml: FakeNvml, probe: NvmlProbe, changes: dict[str, object], reason: GpuReason
) -> None:
    whole = await probe.inventory()
    before = {name: getattr(nvml.gpus[2], name) for name in changes}
    for name, value in changes.items():
        setattr(nvml.gpus[2], name, value)

    bad = await probe.inventory()
    assert reasons(bad) == {"GPU-0": None, "GPU-1": None, "GPU-2": reason, "GPU-3": None}
    assert bad.gpus[2].message

    for name, value in before.items():
        setattr(nvml.gpus[2], name, value)
    assert await probe.inventory() == whole


async def test_gpus_that_cannot_tell_their_health_are_healthy(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    for gpu in nvml.gpus:
        gpu.rows, gpu.recovery_action, gpu.mute = None, None, True
    assert set(reasons(await probe.inventory()).values()) == {None}


async def test_an_xid_of_the_hardware_costs_the_gpu_at_once_and_for_good(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    await probe.inventory()
    told = asyncio.Event()
    probe.on_news = told.set

    nvml.tell_xid(1, 95)
    async with asyncio.timeout(60):
        await told.wait()

    for _ in range(2):
        inventory = await probe.inventory()
        assert reasons(inventory)["GPU-1"] is GpuReason.XID
        assert inventory.gpus[1].message == "the driver told XID 95: uncontained memory error"
        assert inventory.readings["GPU-1"].xids == (95,)
        assert reasons(inventory)["GPU-0"] is None


async def test_an_xid_of_an_application_is_told_and_costs_nothing(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    await probe.inventory()
    told = asyncio.Event()
    probe.on_news = told.set

    for xid in (13, 31, 31):
        told.clear()
        nvml.tell_xid(0, xid)
        async with asyncio.timeout(60):
            await told.wait()

    inventory = await probe.inventory()
    assert reasons(inventory)["GPU-0"] is None
    assert inventory.readings["GPU-0"].xids == (13, 31)


def test_xids_are_heard_again_after_waiting_for_them_failed(
    nvml: FakeNvml, caplog: pytest.LogCaptureFixture
) -> None:
    nvml.gpus[0].wait_error = pynvml.NVML_ERROR_UNKNOWN
    told = threading.Event()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    listener = XidListener(nvml, handle, "GPU-0", lambda _uuid, _xid: told.set(), pause_s=0.001)
    nvml.tell_xid(0, 13)
    while not caplog.records:  # it has met the error; pytest bounds the wait
        assert not told.wait(0.001)

    nvml.gpus[0].wait_error = None
    assert told.wait(60)
    listener.close()
    assert listener.join(60)
    assert not nvml.listened_to(0)
    # Said once, however often it failed.
    assert [record.message for record in caplog.records] == ["XIDs of a GPU cannot be heard"]


async def test_instances_of_a_split_gpu_are_given_instead_of_it(
    nvml: FakeNvml, probe: NvmlProbe
) -> None:
    await probe.inventory()
    nvml.gpus[0].name = "NVIDIA H100 80GB HBM3"
    nvml.gpus[0].vram_bytes = 81_559 * 1024**2
    nvml.gpus[0].instances = [FakeInstance("MIG-a"), FakeInstance("MIG-b", "2g.20gb+me")]
    nvml.gpus[0].rows = (0, 0, 1, 0)

    inventory = await probe.inventory()

    assert [(g.uuid, g.product, g.parent) for g in inventory.gpus][:2] == [
        ("MIG-a", "h100-80gb-mig-1g-10gb", "GPU-0"),
        ("MIG-b", "h100-80gb-mig-2g-20gb-me", "GPU-0"),
    ]
    assert "GPU-0" not in reasons(inventory)
    assert inventory.gpus[0].vram_bytes == 10 * 1024**3
    assert {gpu.reason for gpu in inventory.gpus[:2]} == {GpuReason.REPAIR_PENDING}
    assert inventory.readings["GPU-0"].power_w == 71.5
    assert inventory.readings["MIG-a"].memory_free_bytes == 10 * 1024**3

    nvml.gpus[0].instances = [FakeInstance("MIG-b", "2g.20gb+me")]
    assert "MIG-a" not in reasons(await probe.inventory())
    nvml.gpus[0].error = pynvml.NVML_ERROR_GPU_IS_LOST
    assert reasons(await probe.inventory())["MIG-b"] is GpuReason.LOST
    nvml.gpus[0].error, nvml.gpus[0].instances, nvml.gpus[0].rows = None, None, None
    assert list(reasons(await probe.inventory())) == [f"GPU-{n}" for n in range(4)]


async def test_a_driver_that_hangs_makes_its_gpus_unhealthy_and_holds_nobody_up(
    nvml: FakeNvml,
) -> None:
    probe = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=0.05)
    whole = await probe.inventory()
    threads = set(threading.enumerate())
    nvml.answers.clear()

    # A moment is no hang: what is known is told meanwhile.
    assert await probe.inventory() == whole
    probe._timeout_s = 0.05
    assert await probe.inventory() == whole, "once may be a stall of our own"
    for _ in range(2):
        hung = await probe.inventory()
        assert set(reasons(hung).values()) == {GpuReason.NOT_ANSWERING}
        assert hung.readings == {}
    assert set(threading.enumerate()) <= threads

    nvml.answers.set()
    probe._patience_s = 60
    assert await probe.inventory() == whole
    await probe.close()


async def test_a_process_that_stood_still_takes_no_driver_for_one_that_hangs(
    nvml: FakeNvml,
) -> None:
    """As after a pause of the machine in the middle of a reading."""
    probe = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=0.05)
    whole = await probe.inventory()
    for _ in range(3):
        nvml.answers.clear()
        probe._timeout_s, probe._patience_s = 0.05, 0.05
        assert await probe.inventory() == whole
        nvml.answers.set()
        probe._timeout_s, probe._patience_s = 60, 60
        assert await probe.inventory() == whole
    await probe.close()
    await let_go(nvml)


async def test_nvml_that_fails_as_a_whole_is_opened_again(nvml: FakeNvml, probe: NvmlProbe) -> None:
    whole = await probe.inventory()
    nvml.failure = pynvml.NVML_ERROR_UNINITIALIZED

    broken = await probe.inventory()
    assert set(reasons(broken).values()) == {GpuReason.NOT_ANSWERING}
    assert "Uninitialized" in (broken.gpus[0].message or "")
    assert nvml.open == 0

    nvml.failure = None
    assert await probe.inventory() == whole
    assert nvml.listened_to(0)


async def test_the_real_library_without_a_driver_is_no_error() -> None:
    probe = NvmlProbe()
    inventory = await probe.inventory()
    await probe.close()
    assert inventory.driver_version is None or inventory.gpus
