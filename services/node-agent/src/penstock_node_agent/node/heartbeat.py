"""The node's heartbeat: its record in NODES, put every few seconds with a TTL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.messages import EngineProblem, NodeRecord
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.node.background_read import BackgroundRead
from penstock_node_agent.node.host_facts import HostFacts
from penstock_node_agent.runtimes.protocol import Runtime, RuntimeProblem

logger = logging.getLogger(__name__)

PERIOD_S: Final = 3.0
#: Pause after a beat that NATS did not take: a bucket without a leader has one within seconds.
RETRY_S: Final = 1.0
TTL_S: Final = 10
#: Images are read again every so many beats.
_REREAD_BEATS: Final = 10
#: A beat waits so long for the images; a sick engine holds none up for longer.
_READ_S: Final = 0.5
#: The first one may.
_FIRST_READ_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What of a node stays as it is while its agent runs."""

    node_id: str
    #: address on which its workers are reached
    address: str
    labels: Mapping[str, str]
    version: str
    started_at: datetime
    #: what of network volumes it can mount, as in `NodeRecord`
    volume_paths: tuple[str, ...] = ()
    volume_kinds: tuple[str, ...] = ()


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
        """A heartbeat that has not beaten.

        Args:
            bus: one that carries little else, so that no beat waits behind other traffic.
            bucket: NODES, by this bus.
            identity: what stays as it is.
            runtime: is asked for its images.
            read_gpus: is asked before each beat, so it must answer within a moment.
            read_host: likewise.
            clock: tells the time.
        """
        self._bus = bus
        self._bucket = bucket
        self._identity = identity
        self._runtime = runtime
        #: products of the node's GPUs as last read, in lower case
        self.products: frozenset[str] = frozenset()
        self._read_host = read_host
        self._clock = clock
        self._beat = 0
        self._read_gpus = read_gpus
        self._images = BackgroundRead[tuple[str, ...]]("images", runtime.images, ())
        self._soon = asyncio.Event()
        #: what was told last
        self.last: NodeRecord | None = None
        #: is told of each record before it is put: the one before (None = it is the first), and it
        self.on_record: Callable[[NodeRecord | None, NodeRecord], None] = lambda _before, _now: None
        self._written_at: float | None = None

    def problem(self) -> str | None:
        """What is wrong with this node as others see it; None = it is there."""
        if self._written_at is None:
            return "no heartbeat was written yet"
        age_s = self._clock.monotonic() - self._written_at
        return f"no heartbeat was written for {age_s:.0f} s" if age_s > TTL_S else None

    def beat_soon(self) -> None:
        """Beat now, not at the next period."""
        self._soon.set()

    async def sick_gpus(self) -> frozenset[str]:
        """GPUs that report a fault, read anew; as last read when that takes long."""
        gpus = await self._read_gpus()
        return frozenset(gpu.uuid for gpu in gpus.gpus if not gpu.healthy)

    async def record(self) -> NodeRecord:
        """The record of the next beat."""
        gpus = await self._read_gpus()
        self.products = frozenset(gpu.product.lower() for gpu in gpus.gpus)
        again = self._beat % _REREAD_BEATS == 0
        wait_s = _READ_S if self._beat else _FIRST_READ_S
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
            gpu_readings=gpus.readings,
            static_gpus=gpus.static,
            driver_version=gpus.driver_version,
            cuda_version=gpus.cuda_version,
            cpu_count=host.cpu_count,
            load_1m=host.load_1m,
            memory_bytes=host.memory_bytes,
            memory_available_bytes=host.memory_available_bytes,
            disk_bytes=host.disk_bytes,
            disk_free_bytes=host.disk_free_bytes,
            images=images,
            labels=identity.labels,
            volume_paths=identity.volume_paths,
            volume_kinds=identity.volume_kinds,
            version=identity.version,
            started_at=identity.started_at,
            beat=self._beat,
        )

    async def beat(self) -> NodeRecord:
        """Put the record once.

        Raises:
            PenstockError: NATS did not take it.
        """
        record = await self.record()
        self.on_record(self.last, record)
        self.last = record
        await self._bucket.put(record.node_id, record.encode(), ttl_s=TTL_S)
        self._written_at = self._clock.monotonic()
        return record

    async def try_beat(self) -> bool:
        """Put the record once; gives whether NATS took it."""
        try:
            await self.beat()
        except PenstockError as error:
            logger.info(
                "heartbeat not written",
                extra={"action": "heartbeat_failed", "error": str(error)},
            )
            return False
        return True

    async def run(self) -> None:
        """Beat for ever: every period, sooner when NATS took none, at once after a reconnect."""
        remove = self._bus.on_connect(self._soon.set)
        try:
            while True:
                self._soon.clear()
                pause_s = PERIOD_S if await self.try_beat() else RETRY_S
                try:
                    async with asyncio.timeout(pause_s):
                        await self._soon.wait()
                except TimeoutError:
                    continue
        finally:
            remove()
            await self._images.close()

    async def leave(self) -> None:
        """Delete the record: the node goes on purpose. Best effort; it expires anyway."""
        try:
            await self._bucket.delete(self._identity.node_id)
        except PenstockError as error:
            logger.info("node record left", extra={"action": "leave_failed", "error": str(error)})

    async def leave_for(self, restart_s: int) -> None:
        """Tell that the workers run on and an agent is back within so many seconds. Best effort."""
        assert self.last is not None, "a node that never reported cannot leave"
        record = self.last.model_copy(update={"restarting": True})
        try:
            await self._bucket.put(record.node_id, record.encode(), ttl_s=restart_s)
        except PenstockError as error:
            logger.info(
                "restart not announced", extra={"action": "leave_failed", "error": str(error)}
            )
