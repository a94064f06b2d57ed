"""GPUs that go bad, as the scheduler hears of them: the agent on a real NATS with a fake driver."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pynvml
import pytest

from penstock_common import subjects
from penstock_common.messages import GpuNews, NodeRecord
from penstock_common.states import GpuReason
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from tests.fakes.nvml import FakeGpu, FakeNvml
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import NODE, AgentRig, RunningAgent, agent_rig
from tests.support.cloud_events import read_message
from tests.support.nats_server import NatsServer

if TYPE_CHECKING:
    from penstock_common.nats.connection import Received


class GpuNode:
    """An agent with two GPUs, and what it tells."""

    def __init__(
        self, rig: AgentRig, nvml: FakeNvml, agent: RunningAgent, probe: NvmlProbe
    ) -> None:
        self.nvml = nvml
        self.probe = probe
        self.told: list[Received] = []
        self._rig = rig
        self._agent = agent

    def beat(self) -> None:
        """As when a period has passed."""
        self._agent.agent._parts.heartbeat.beat_soon()

    async def until_record(self, condition: Callable[[NodeRecord], bool]) -> NodeRecord:
        async with asyncio.timeout(60):
            while True:
                record = await self._rig.scheduler.node()
                if record is not None and condition(record):
                    return record
                await asyncio.sleep(0.01)

    async def until_beat_after(self, before: NodeRecord) -> NodeRecord:
        return await self.until_record(lambda record: record.beat > before.beat)

    async def until_reason(self, uuid: str, reason: GpuReason | None) -> NodeRecord:
        """Wait until the record says this of a GPU."""
        return await self.until_record(
            lambda record: (uuid, reason) in {(g.uuid, g.reason) for g in record.gpus}
        )

    async def until_told(self, n: int) -> list[tuple[str, GpuNews]]:
        """The first `n` events about GPUs: type and data."""
        await self._rig.scheduler.until(lambda: len(self.told) >= n)
        read = [read_message(message) for message in self.told]
        return [(row.name, data) for row, data in read if isinstance(data, GpuNews)]


@pytest.fixture
async def node(nats_server: NatsServer) -> AsyncIterator[GpuNode]:
    nvml = FakeNvml([FakeGpu("GPU-0"), FakeGpu("GPU-1")])
    # A reading that takes long makes the GPUs sick: only a test of that may wait for it.
    probe = NvmlProbe(lambda: nvml, timeout_s=60, patience_s=0.05)
    host = FakeHost()
    async with agent_rig(nats_server) as rig:
        told: list[Received] = []
        bus = await rig.bus("watcher")
        for verb in ("gpu_unhealthy", "gpu_healthy"):
            await bus.subscribe(subjects.node_event(NODE, verb), told.append)
        agent = await rig.start(FakeRuntime(host), probe=probe)
        made = GpuNode(rig, nvml, agent, probe)
        made.told = told
        yield made
        nvml.answers.set()
    await probe.close()
    await host.close()


async def test_the_record_tells_gpus_measures_and_the_machine(node: GpuNode) -> None:
    record = await node.until_reason("GPU-0", None)
    assert record.driver_version == "570.86.15"
    assert record.gpu_readings["GPU-1"].temperature_c == 41
    assert node.told == []


async def test_an_xid_is_in_the_record_and_told_at_once_and_an_applications_costs_nothing(
    node: GpuNode,
) -> None:
    node.nvml.tell_xid(0, 31)
    await node.until_record(lambda record: record.gpu_readings["GPU-0"].xids == (31,))
    node.nvml.tell_xid(1, 79)
    record = await node.until_reason("GPU-1", GpuReason.LOST)

    assert [gpu.reason for gpu in record.gpus] == [None, GpuReason.LOST]
    ((type_, news),) = await node.until_told(1)
    assert type_ == "penstock.node.gpu_unhealthy"
    assert (news.node_id, news.gpu.uuid, news.gpu.reason) == (NODE, "GPU-1", GpuReason.LOST)
    assert news.before is None
    assert news.gpu.message == "the driver told XID 79: GPU has fallen off the bus"


async def test_a_gpu_that_recovers_is_told_as_well(node: GpuNode) -> None:
    node.nvml.gpus[1].error = pynvml.NVML_ERROR_UNKNOWN
    node.beat()
    await node.until_reason("GPU-1", GpuReason.NOT_ANSWERING)
    node.nvml.gpus[1].error = pynvml.NVML_ERROR_GPU_IS_LOST
    node.beat()
    await node.until_reason("GPU-1", GpuReason.LOST)
    node.nvml.gpus[1].error = None
    node.beat()
    await node.until_reason("GPU-1", None)

    told = [(type_, news.before, news.gpu.reason) for type_, news in await node.until_told(3)]
    assert told == [
        ("penstock.node.gpu_unhealthy", None, GpuReason.NOT_ANSWERING),
        ("penstock.node.gpu_unhealthy", GpuReason.NOT_ANSWERING, GpuReason.LOST),
        ("penstock.node.gpu_healthy", GpuReason.LOST, None),
    ]


async def test_a_driver_that_hangs_holds_no_beat_up(node: GpuNode) -> None:
    before = await node.until_reason("GPU-0", None)
    node.probe._timeout_s = 0.5
    node.nvml.answers.clear()

    # So many beats while one reading hangs.
    record = before
    for _ in range(3):
        node.beat()
        record = await node.until_beat_after(record)

    async def beat_on() -> None:
        while True:
            node.beat()
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat_on())
    await node.until_reason("GPU-0", GpuReason.NOT_ANSWERING)
    node.nvml.answers.set()
    await node.until_reason("GPU-0", None)
    beating.cancel()
    types = [json.loads(message.data)["gpu"]["uuid"] for message in node.told]
    assert set(types) == {"GPU-0", "GPU-1"}
