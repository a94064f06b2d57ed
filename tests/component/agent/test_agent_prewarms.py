"""Orders to have images ahead of need, carried out by an agent over a runtime in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.messages import Gpu, PrewarmRecord, PrewarmState, PrewarmStatus
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.states import WorkerReason
from penstock_node_agent import prewarms
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.runtimes.protocol import StartFailedError
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import NODE, AgentRig, agent_rig
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

T4 = GpuInventory(gpus=(Gpu(uuid="GPU-1", product="T4-16gb", vram_bytes=1),))


class Orders:
    """The api's part, and what the agent tells."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = Bucket(bus, subjects.PREWARMS)
        self.told: list[PrewarmStatus] = []
        self._changed = asyncio.Event()
        self.table = WatchedTable(
            bus, subjects.PREWARM_STATUS, PrewarmStatus.decode, on_change=self._note
        )

    def _note(self, _key: str, row: Any) -> None:
        if row is not None:
            self.told.append(row.value)
        self._changed.set()

    async def order(self, prewarm_id: str, image: str, **fields: Any) -> None:
        record = PrewarmRecord(
            prewarm_id=prewarm_id, image=image, created_at=SystemClock().utc(), **fields
        )
        await self._bucket.put(prewarm_id, record.encode())

    async def withdraw(self, prewarm_id: str) -> None:
        await self._bucket.delete(prewarm_id)

    def status(self, prewarm_id: str) -> PrewarmStatus | None:
        row = self.table.rows.get(subjects.prewarm_status_key(NODE, prewarm_id))
        return row.value if row is not None else None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(self, prewarm_id: str, state: PrewarmState) -> PrewarmStatus:
        def reached() -> bool:
            status = self.status(prewarm_id)
            return status is not None and status.state is state

        await self.until(reached)
        status = self.status(prewarm_id)
        assert status is not None
        return status


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


@pytest.fixture
async def orders(rig: AgentRig) -> AsyncIterator[Orders]:
    made = Orders(await rig.bus("orders"))
    await made.table.start()
    yield made
    await made.table.stop()


async def test_orders_for_this_node_are_carried_out_and_kept(rig: AgentRig, orders: Orders) -> None:
    host = FakeHost()
    await orders.order("pw-1", "a/one:1")
    await rig.start(FakeRuntime(host, "docker"), inventory=T4)
    await orders.order("pw-2", "a/two:1", nodes=(NODE,), products=("t4-16GB", "h100-80gb"))
    await orders.order("pw-3", "a/other:1", nodes=("node-other",))
    await orders.order("pw-4", "a/large:1", products=("h100-80gb",))

    done = await orders.until_state("pw-1", PrewarmState.DONE)
    assert (done.image_digest, done.pull_bytes, done.pull_total_bytes) == ("sha256:1", 10, 10)
    await orders.until_state("pw-2", PrewarmState.DONE)
    states = [status.state for status in orders.told if status.prewarm_id == "pw-2"]
    assert states[-1] is PrewarmState.DONE
    assert sorted(host.prewarmed) == ["a/one:1", "a/two:1"]
    assert host.kept_images == {"a/one:1", "a/two:1"}
    assert orders.status("pw-3") is None
    assert orders.status("pw-4") is None

    await orders.withdraw("pw-1")
    await orders.until(lambda: orders.status("pw-1") is None)
    assert host.kept_images == {"a/two:1"}


async def test_a_pull_that_failed_is_told_and_tried_again(
    rig: AgentRig, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prewarms, "_FIRST_PAUSE_S", 0.05)
    host = FakeHost()
    host.start_errors.append(StartFailedError(WorkerReason.IMAGE_NOT_FOUND, "no such image"))
    await rig.start(FakeRuntime(host, "docker"))
    await orders.order("pw-1", "a/one:1")

    await orders.until_state("pw-1", PrewarmState.DONE)
    failed = next(s for s in orders.told if s.state is PrewarmState.FAILED)
    assert (failed.reason, failed.message) == (WorkerReason.IMAGE_NOT_FOUND, "no such image")
    assert host.prewarmed == ["a/one:1", "a/one:1"]


async def test_one_order_is_carried_out_at_a_time_and_may_be_withdrawn(
    rig: AgentRig, orders: Orders
) -> None:
    host = FakeHost()
    host.gate.clear()
    await rig.start(FakeRuntime(host, "docker"))
    await orders.order("pw-1", "a/one:1")
    pulling = await orders.until_state("pw-1", PrewarmState.PULLING)
    await orders.order("pw-2", "a/two:1")
    await orders.until_state("pw-2", PrewarmState.PENDING)
    assert host.prewarmed == ["a/one:1"]
    await orders.until(lambda: orders.status("pw-1").pull_bytes == 5)  # type: ignore[union-attr]  # it is there
    assert pulling.node_id == NODE

    await orders.withdraw("pw-1")
    await orders.until_state("pw-2", PrewarmState.PULLING)
    host.gate.set()
    await orders.until_state("pw-2", PrewarmState.DONE)
    await orders.until(lambda: orders.status("pw-1") is None)


async def test_what_was_withdrawn_while_the_agent_was_away_is_forgotten(
    rig: AgentRig, orders: Orders
) -> None:
    host = FakeHost()
    first = await rig.start(FakeRuntime(host, "docker"))
    await orders.order("pw-1", "a/one:1")
    await orders.order("pw-2", "a/two:1")
    for prewarm_id in ("pw-1", "pw-2"):
        await orders.until_state(prewarm_id, PrewarmState.DONE)
    await first.kill()
    await orders.withdraw("pw-1")

    await rig.start(FakeRuntime(host, "docker"))
    await orders.until(lambda: orders.status("pw-1") is None)
    await orders.until_state("pw-2", PrewarmState.DONE)
    assert host.prewarmed.count("a/two:1") == 2, "an agent that comes back looks again"


async def test_a_node_without_images_takes_no_orders(rig: AgentRig, orders: Orders) -> None:
    host = FakeHost()
    agent = await rig.start(FakeRuntime(host, "process"))
    await orders.order("pw-1", "a/one:1")
    await agent.stop()
    assert host.prewarmed == []
    assert orders.told == []
