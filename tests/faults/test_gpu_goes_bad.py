"""A GPU goes bad under a worker: real scheduler, agent, NATS and processes, a fake driver."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.messages import WorkerAssignment
from penstock_common.nats.kv import Bucket, Row, WatchedTable
from penstock_common.states import DesiredState, WorkerReason, WorkerState
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from tests.fakes.nvml import FakeGpu, FakeNvml
from tests.fakes.scheduler_records import make_record
from tests.fakes.scheduler_site import scheduling
from tests.support.agent_rig import NODE, AgentRig, agent_rig
from tests.support.bus import eventually
from tests.support.nats_server import NatsServer
from tests.support.process_workers import process_settings

pytestmark = [pytest.mark.slow, pytest.mark.nats]

GAUGE = f"{sys.executable} {Path(__file__).parents[1]}/support/gauge_worker.py"


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


async def test_its_worker_is_replaced_and_the_last_ones_is_stopped(
    rig: AgentRig, nats_server: NatsServer, tmp_path: Path
) -> None:
    nvml = FakeNvml([FakeGpu("GPU-0"), FakeGpu("GPU-1")])
    probe = NvmlProbe(lambda: nvml)
    bus = await rig.bus("watcher")
    ordered: dict[str, set[WorkerReason | None]] = {}

    def on_order(_key: str, row: Row[WorkerAssignment] | None) -> None:
        if row is not None:
            ordered.setdefault(row.value.worker_id, set()).add(row.value.reason)

    table = WatchedTable(
        bus,
        subjects.WORKERS,
        WorkerAssignment.decode,
        keys=subjects.node_worker_keys(NODE),
        on_change=on_order,
    )
    await table.start()

    def gpus() -> dict[str, str]:
        """Worker → its GPU, of those that run and are to run."""
        found = {}
        for row in table.rows.values():
            status = rig.scheduler.status(row.value.worker_id)
            runs = status is not None and status.state is WorkerState.RUNNING
            if runs and row.value.desired is DesiredState.RUNNING:
                found[row.value.worker_id] = row.value.gpus[0]
        return found

    async with scheduling(nats_server.url):
        await rig.start(ProcessRuntime(process_settings(tmp_path)), probe=probe)
        record = make_record(
            gpu={"count": 1}, image={"command": GAUGE}, workers={"min": 1, "max": 1}
        )
        await Bucket(bus, subjects.ENDPOINTS).put(record.endpoint_id, record.encode())
        await eventually(gpus)
        ((first, bad),) = gpus().items()

        nvml.tell_xid(int(bad[-1]), 95)
        await eventually(lambda: gpus() and first not in gpus())
        ((second, good),) = gpus().items()
        assert {bad, good} == {"GPU-0", "GPU-1"}
        await rig.scheduler.until_gone(first)
        history = [(s.worker_id, s.state) for s in rig.scheduler.history]
        before = history[: history.index((second, WorkerState.RUNNING))]
        # The second ran before the first took no more; of what is overwritten not all is seen.
        assert (first, WorkerState.RUNNING) in before
        assert (first, WorkerState.STOPPED) not in before

        nvml.tell_xid(int(good[-1]), 79)
        await rig.scheduler.until_gone(second)
        assert not gpus()
        assert ordered[first] == {None, WorkerReason.GPU_UNHEALTHY}
        assert ordered[second] == {None, WorkerReason.GPU_LOST}
    await table.stop()
    await probe.close()
