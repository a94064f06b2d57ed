"""A node agent in this process on a real nats-server, and the scheduler's part played by a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from penstock_common import entropy, ids, subjects
from penstock_common.clock import Clock, SystemClock
from penstock_common.errors import PenstockError
from penstock_common.messages import NodeRecord, WorkerAssignment, WorkerStatus
from penstock_common.nats.connection import ANSWER_S, Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.nats.streams import ensure_streams
from penstock_common.sealing import Sealer
from penstock_common.settings import NatsSettings
from penstock_common.specs import EndpointSpec
from penstock_common.states import DesiredState, WorkerState
from penstock_node_agent.agent import Agent, AgentParts
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.node.heartbeat import Heartbeat, NodeIdentity
from penstock_node_agent.node.host_facts import HostFacts
from penstock_node_agent.runtimes.protocol import Runtime
from penstock_node_agent.workers.advice import advised
from tests.support.bus import PATIENT_S
from tests.support.nats_server import NatsServer

NODE = "node-test"


def endpoint_spec(command: str, **sections: Any) -> EndpointSpec:
    """A spec that runs this command, probed often and with patience; `sections` replace whole ones."""
    document: dict[str, Any] = {
        "name": "test",
        "app_name": "test",
        "image": {"image": "fake:1", "command": command},
        "workers": {"start_timeout_s": 120, "stop_grace_s": 2},
        "health": {"interval_s": 0.1, "timeout_s": 30},
        "gpu": {"count": 0},
    }
    return EndpointSpec.model_validate(document | sections)


def said(status: WorkerStatus) -> str:
    """Its sentence without the advice at its end."""
    message = status.message or ""
    if status.reason is None:
        return message
    advice = advised(status.reason, "")
    assert message.endswith(advice)
    return message.removesuffix(advice)


class SchedulerStandIn:
    """Writes assignments as the scheduler does, and reads what the agent tells."""

    def __init__(self, bus: Bus, node_id: str = NODE) -> None:
        self.node_id = node_id
        self.workers = Bucket(bus, subjects.WORKERS)
        self.nodes = Bucket(bus, subjects.NODES)
        self.history: list[WorkerStatus] = []
        self._changed = asyncio.Event()
        self.statuses = WatchedTable(
            bus, subjects.WORKER_STATUS, WorkerStatus.decode, on_change=self._on_status
        )
        self._clock = SystemClock()

    def _on_status(self, _key: str, row: Any) -> None:
        if row is not None:
            self.history.append(row.value)
        self._changed.set()

    def key(self, worker_id: str) -> str:
        return subjects.worker_key(self.node_id, worker_id)

    async def assign(self, spec: EndpointSpec, **changes: Any) -> WorkerAssignment:
        now = self._clock.utc()
        fields: dict[str, Any] = {
            "worker_id": entropy.random_id(ids.WORKER),
            "node_id": self.node_id,
            "endpoint_id": "ep-1",
            "revision": 1,
            "fencing_token": 1,
            "decided_at": now,
            "assigned_at": now,
            "spec": spec,
        }
        assignment = WorkerAssignment(**fields | changes)
        await self.write(assignment)
        return assignment

    async def write(self, assignment: WorkerAssignment) -> None:
        await self.workers.put(self.key(assignment.worker_id), assignment.encode())

    async def want(
        self, assignment: WorkerAssignment, desired: DesiredState, **changes: Any
    ) -> WorkerAssignment:
        changed = assignment.model_copy(update={"desired": desired, **changes})
        await self.write(changed)
        return changed

    async def unassign(self, worker_id: str) -> None:
        await self.workers.delete(self.key(worker_id))

    def status(self, worker_id: str) -> WorkerStatus | None:
        row = self.statuses.rows.get(self.key(worker_id))
        return row.value if row is not None else None

    def states(self, worker_id: str) -> list[WorkerState]:
        """States that it has had, in order, repeats left out."""
        states: list[WorkerState] = []
        for status in self.history:
            if status.worker_id == worker_id and status.state not in states[-1:]:
                states.append(status.state)
        return states

    async def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        """Wait until the statuses that have come satisfy the condition."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    async def until_state(
        self, worker_id: str, state: WorkerState, within_s: float = 60.0
    ) -> WorkerStatus:
        def reached() -> bool:
            status = self.status(worker_id)
            return status is not None and status.state is state

        try:
            await self.until(reached, within_s)
        except TimeoutError:
            raise AssertionError(f"not {state}: {self.status(worker_id)}") from None
        status = self.status(worker_id)
        assert status is not None
        return status

    async def until_gone(self, worker_id: str, within_s: float = 60.0) -> None:
        await self.until(lambda: self.status(worker_id) is None, within_s)

    async def node(self) -> NodeRecord | None:
        entry = await self.nodes.get(self.node_id)
        return NodeRecord.decode(entry.value) if entry is not None else None

    async def until_node(
        self, condition: Callable[[NodeRecord], bool], within_s: float = 60.0
    ) -> NodeRecord:
        """The node's record, once it satisfies the condition."""
        record: NodeRecord | None = None
        async with asyncio.timeout(within_s):
            while True:
                with contextlib.suppress(PenstockError):  # its connection may be lost and found
                    record = await self.node()
                if record is not None and condition(record):
                    return record
                await asyncio.sleep(0.02)


class RunningAgent:
    """An agent, and how to end it."""

    def __init__(self, agent: Agent, stopping: asyncio.Event, task: asyncio.Task[None]) -> None:
        self.agent = agent
        self._stopping = stopping
        self._task = task

    async def stop(self, within_s: float = 60.0) -> None:
        """As by SIGTERM."""
        self._stopping.set()
        async with asyncio.timeout(within_s):
            await self._task

    async def kill(self) -> None:
        """As by SIGKILL: nothing is cleaned away or told."""
        self._task.cancel()
        await asyncio.wait({self._task})


class AgentRig:
    """Makes agents of one node on one nats-server."""

    def __init__(self, server: NatsServer) -> None:
        self._settings = NatsSettings(nats_url=server.url)
        self._clock = SystemClock()
        self._stack = contextlib.AsyncExitStack()
        self._agents: list[RunningAgent] = []
        self.scheduler: SchedulerStandIn

    async def bus(self, name: str, *, answer_s: float = PATIENT_S) -> Bus:
        """A connection of the test's; an agent's own has the `answer_s` of agents."""
        bus = await Bus.connect(self._settings, name=name, clock=self._clock, answer_s=answer_s)
        self._stack.push_async_callback(bus.close)
        return bus

    async def open(self) -> None:
        bus = await self.bus("test")
        await ensure_streams(bus)
        self.scheduler = SchedulerStandIn(bus)
        await self.scheduler.statuses.start()
        self._stack.push_async_callback(self.scheduler.statuses.stop)

    async def start(
        self,
        runtime: Runtime,
        *,
        inventory: GpuInventory | None = None,
        probe: NvmlProbe | None = None,
        sealer: Sealer | None = None,
        stop_workers_on_exit: bool = True,
        restart_grace_s: int = 30,
        engine_patience_s: float = 30.0,
        clock: Clock | None = None,
    ) -> RunningAgent:
        """Start an agent and wait until it serves; `clock` tells the ages of its workers."""
        bus = await self.bus("agent", answer_s=ANSWER_S)
        beats = await self.bus("agent beats", answer_s=ANSWER_S)
        await ensure_streams(bus)
        await ensure_streams(beats)

        async def read_gpus() -> GpuInventory:
            return inventory or GpuInventory()

        heartbeat = Heartbeat(
            bus=beats,
            bucket=Bucket(beats, subjects.NODES),
            identity=NodeIdentity(NODE, "127.0.0.1", {"zone": "a"}, "0.0", self._clock.utc()),
            runtime=runtime,
            read_gpus=probe.inventory if probe else read_gpus,
            read_host=lambda: HostFacts("test-host", 2, 1_000, 2_000),
            clock=self._clock,
        )
        if probe:
            probe.on_news = heartbeat.beat_soon
        agent = Agent(
            AgentParts(
                node_id=NODE,
                bus=bus,
                runtime=runtime,
                heartbeat=heartbeat,
                clock=clock or self._clock,
                sealer=sealer,
                stop_workers_on_exit=stop_workers_on_exit,
                restart_grace_s=restart_grace_s,
                engine_patience_s=engine_patience_s,
            )
        )
        stopping, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(agent.run(stopping, ready), name="agent under test")
        waiting = asyncio.create_task(ready.wait(), name="agent ready")
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        waiting.cancel()
        if task.done():
            task.result()
        assert ready.is_set()
        running = RunningAgent(agent, stopping, task)
        self._agents.append(running)
        return running

    async def close(self) -> None:
        for running in self._agents:
            await running.kill()
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def agent_rig(server: NatsServer) -> AsyncIterator[AgentRig]:
    """A rig that is cleaned away."""
    rig = AgentRig(server)
    try:
        await rig.open()
        yield rig
    finally:
        await rig.close()
