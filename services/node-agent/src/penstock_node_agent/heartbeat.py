"""The node's heartbeat: its record in NODES, put every few seconds with a TTL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_common.clock import Clock
from penstock_common.connection import Bus
from penstock_common.errors import PenstockError
from penstock_common.kv import Bucket
from penstock_common.messages import EngineProblem, NodeRecord
from penstock_node_agent.background_read import BackgroundRead
from penstock_node_agent.gpus import GpuInventory
from penstock_node_agent.host_facts import HostFacts
from penstock_node_agent.runtime import Runtime, RuntimeProblem

logger = logging.getLogger(__name__)

PERIOD_S: Final = 3.0
TTL_S: Final = 10
#: GPUs and images are read again every so many beats.
_REREAD_BEATS: Final = 10
#: A beat waits so long for what is being read; a sick driver or engine holds none up for longer.
_READ_S: Final = 0.5
#: The first one may: a driver that nobody used takes seconds to come up.
_FIRST_READ_S: Final = 4.0
#: Who asks whether a GPU is sick waits so long.
_SICK_READ_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What of a node stays as it is while its agent runs."""

    node_id: str
    #: address on which its workers are reached
    address: str
    labels: Mapping[str, str]
    version: str
    started_at: datetime


def wire_problem(problem: RuntimeProblem | None) -> EngineProblem | None:
    """What a node's record says of a problem of its runtime."""
    if problem is None:
        return None
    return EngineProblem(message=problem.message, since=problem.since, full=problem.full)


class Heartbeat:
    """Tells that the node lives, and what it has."""

    def __init__(
        self,
        *,
        bus: Bus,
        bucket: Bucket,
        identity: NodeIdentity,
        runtime: Runtime,
        read_gpus: Callable[[], Awaitable[GpuInventory]],
        read_host: Callable[[], HostFacts],
        clock: Clock,
    ) -> None:
        """`bus` is one that carries little else, so that no beat waits behind other traffic."""
        self._bus = bus
        self._bucket = bucket
        self._identity = identity
        self._runtime = runtime
        self._read_host = read_host
        self._clock = clock
        self._beat = 0
        self._gpus = BackgroundRead("gpus", read_gpus, GpuInventory())
        self._images = BackgroundRead[tuple[str, ...]]("images", runtime.images, ())
        self._soon = asyncio.Event()
        #: what was told last
        self.last: NodeRecord | None = None

    def beat_soon(self) -> None:
        """Beat now, not at the next period."""
        self._soon.set()

    async def sick_gpus(self) -> frozenset[str]:
        """GPUs that report a fault, read anew; as last read when that takes long."""
        gpus = await self._gpus.newest(again=True, wait_s=_SICK_READ_S)
        return frozenset(gpu.uuid for gpu in gpus.gpus if not gpu.healthy)

    async def record(self) -> NodeRecord:
        """The record of the next beat."""
        again = self._beat % _REREAD_BEATS == 0
        wait_s = _READ_S if self._beat else _FIRST_READ_S
        gpus = await self._gpus.newest(again=again, wait_s=wait_s)
        images = await self._images.newest(again=again, wait_s=wait_s)
        self._beat += 1
        host, identity = self._read_host(), self._identity
        return NodeRecord(
            node_id=identity.node_id,
            hostname=host.hostname,
            address=identity.address,
            runtime=self._runtime.kind,
            engine_problem=wire_problem(self._runtime.problem),
            gpus=gpus.gpus,
            static_gpus=gpus.static,
            driver_version=gpus.driver_version,
            cuda_version=gpus.cuda_version,
            cpu_count=host.cpu_count,
            memory_bytes=host.memory_bytes,
            disk_free_bytes=host.disk_free_bytes,
            images=images,
            labels=identity.labels,
            version=identity.version,
            started_at=identity.started_at,
            beat=self._beat,
        )

    async def beat(self) -> NodeRecord:
        """Put the record once.

        Raises:
            PenstockError: NATS did not take it.
        """
        record = self.last = await self.record()
        await self._bucket.put(record.node_id, record.encode(), ttl_s=TTL_S)
        return record

    async def try_beat(self) -> None:
        """Put the record once, if NATS takes it."""
        try:
            await self.beat()
        except PenstockError as error:
            logger.info(
                "heartbeat not written",
                extra={"action": "heartbeat_failed", "error": str(error)},
            )

    async def run(self) -> None:
        """Beat for ever: every period, and at once after a reconnect."""
        remove = self._bus.on_connect(self._soon.set)
        try:
            while True:
                self._soon.clear()
                await self.try_beat()
                try:
                    async with asyncio.timeout(PERIOD_S):
                        await self._soon.wait()
                except TimeoutError:
                    continue
        finally:
            remove()
            await self._gpus.close()
            await self._images.close()

    async def leave(self) -> None:
        """Delete the record: the node goes on purpose. Best effort; it expires anyway."""
        try:
            await self._bucket.delete(self._identity.node_id)
        except PenstockError as error:
            logger.info("node record left", extra={"action": "leave_failed", "error": str(error)})
