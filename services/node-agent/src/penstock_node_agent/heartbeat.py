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
from penstock_common.messages import NodeRecord
from penstock_node_agent.gpus import GpuInventory
from penstock_node_agent.host_facts import HostFacts
from penstock_node_agent.runtime import Runtime, RuntimeFailedError

logger = logging.getLogger(__name__)

PERIOD_S: Final = 3.0
TTL_S: Final = 10
#: Images are read again every so many beats.
_REREAD_BEATS: Final = 10


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
        self._read_gpus = read_gpus
        #: products of the node's GPUs as last read, in lower case
        self.products: frozenset[str] = frozenset()
        self._read_host = read_host
        self._clock = clock
        self._beat = 0
        self._images: tuple[str, ...] = ()
        self._soon = asyncio.Event()
        self._last: NodeRecord | None = None
        #: is told of each record before it is put: the one before (None = it is the first), and it
        self.on_record: Callable[[NodeRecord | None, NodeRecord], None] = lambda _before, _now: None

    def beat_soon(self) -> None:
        """Beat now, not at the next period."""
        self._soon.set()

    async def record(self) -> NodeRecord:
        """The record of the next beat."""
        gpus = await self._read_gpus()
        self.products = frozenset(gpu.product.lower() for gpu in gpus.gpus)
        if self._beat % _REREAD_BEATS == 0:
            try:
                self._images = await self._runtime.images()
            except RuntimeFailedError as error:
                logger.warning(
                    "images not read", extra={"action": "images_unread", "error": str(error)}
                )
        self._beat += 1
        host, identity = self._read_host(), self._identity
        return NodeRecord(
            node_id=identity.node_id,
            hostname=host.hostname,
            address=identity.address,
            runtime=self._runtime.kind,
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
            images=self._images,
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
        self.on_record(self._last, record)
        self._last = record
        await self._bucket.put(record.node_id, record.encode(), ttl_s=TTL_S)
        return record

    async def run(self) -> None:
        """Beat for ever: every period, and at once after a reconnect."""
        remove = self._bus.on_connect(self._soon.set)
        try:
            while True:
                self._soon.clear()
                try:
                    await self.beat()
                except PenstockError as error:
                    logger.info(
                        "heartbeat not written",
                        extra={"action": "heartbeat_failed", "error": str(error)},
                    )
                try:
                    async with asyncio.timeout(PERIOD_S):
                        await self._soon.wait()
                except TimeoutError:
                    continue
        finally:
            remove()

    async def leave(self) -> None:
        """Delete the record: the node goes on purpose. Best effort; it expires anyway."""
        try:
            await self._bucket.delete(self._identity.node_id)
        except PenstockError as error:
            logger.info("node record left", extra={"action": "leave_failed", "error": str(error)})

    async def leave_for(self, restart_s: int) -> None:
        """Tell that the workers run on and an agent is back within so many seconds. Best effort."""
        assert self._last is not None, "a node that never reported cannot leave"
        record = self._last.model_copy(update={"restarting": True})
        try:
            await self._bucket.put(record.node_id, record.encode(), ttl_s=restart_s)
        except PenstockError as error:
            logger.info(
                "restart not announced", extra={"action": "leave_failed", "error": str(error)}
            )
