"""Images that are to be on this node ahead of need: one task for each order that is for it.

The orders stand in PREWARMS; how each is here stands in PREWARM_STATUS under this node's id. A pull
that failed is tried again, ever more rarely, for as long as the order stands. Ordered images are
protected from the clean-up. One order is carried out at a time, so that workers' own pulls have
room. `tick` alone converges.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.messages import PrewarmRecord, PrewarmState, PrewarmStatus
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.prewarms import is_for
from penstock_node_agent.records.registry_auths import OpenAuth
from penstock_node_agent.runtimes.protocol import ImageWish, Runtime, StartFailedError
from penstock_node_agent.runtimes.pull_bytes import PulledBytes
from penstock_node_agent.status_board import StatusBoard

logger = logging.getLogger(__name__)

TICK_S: Final = 5.0
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class PrewarmParts:
    """What carrying out orders needs."""

    node_id: str
    bus: Bus
    runtime: Runtime
    #: gives the products of this node's GPUs
    read_products: Callable[[], frozenset[str]]
    open_auth: OpenAuth
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Job:
    record: PrewarmRecord
    task: asyncio.Task[None]


class Prewarms:
    """Carries out this node's orders."""

    def __init__(self, parts: PrewarmParts) -> None:
        """Nothing is watched yet."""
        self._parts = parts
        self._wake = asyncio.Event()
        self._turn = asyncio.Semaphore(1)
        self._jobs: dict[str, _Job] = {}
        self._board: StatusBoard[PrewarmStatus] = StatusBoard(
            parts.bus, Bucket(parts.bus, subjects.PREWARM_STATUS)
        )
        self._orders = WatchedTable(
            parts.bus,
            subjects.PREWARMS,
            PrewarmRecord.decode,
            on_change=lambda _key, _row: self._wake.set(),
            on_synced=self._wake.set,
        )
        self._statuses = WatchedTable(
            parts.bus,
            subjects.PREWARM_STATUS,
            PrewarmStatus.decode,
            keys=subjects.node_worker_keys(parts.node_id),
        )

    async def run(self) -> None:
        """Carry out orders, for ever.

        Raises:
            PenstockError: NATS could not be asked at the start.
        """
        await self._statuses.start()
        try:
            await self._orders.start()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._board.run(), name="prewarm statuses")
                    while True:
                        self.tick(group)
                        await self._pause()
            finally:
                await self._orders.stop()
        finally:
            await self._statuses.stop()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(TICK_S):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def tick(self, group: asyncio.TaskGroup) -> None:
        """Begin what was ordered, end what is ordered no more."""
        products = self._parts.read_products()
        ours = {
            key: row.value
            for key, row in self._orders.rows.items()
            if is_for(row.value, self._parts.node_id, products)
        }
        self._parts.runtime.keep_images(frozenset(record.image for record in ours.values()))
        for prewarm_id, record in ours.items():
            job = self._jobs.get(prewarm_id)
            if job is None or job.record != record:
                self._end(prewarm_id)
                task = group.create_task(self._carry_out(record), name=f"prewarm {prewarm_id}")
                self._jobs[prewarm_id] = _Job(record, task)
        if not self._orders.synced:
            return
        for prewarm_id in self._jobs.keys() - ours.keys():
            self._end(prewarm_id)
        if self._statuses.synced:
            for key in self._statuses.rows.keys() - {self._key(name) for name in ours}:
                self._board.delete(key)
            self._board.compare(self._statuses.rows)

    def _end(self, prewarm_id: str) -> None:
        job = self._jobs.pop(prewarm_id, None)
        if job is not None:
            job.task.cancel()
            self._board.delete(self._key(prewarm_id))

    def _key(self, prewarm_id: str) -> str:
        return subjects.prewarm_status_key(self._parts.node_id, prewarm_id)

    async def _carry_out(self, record: PrewarmRecord) -> None:
        """Have the image on the node, however often that takes."""
        parts, auth_id = self._parts, record.registry_auth_id
        credentials = None if auth_id is None else functools.partial(parts.open_auth, auth_id)
        wish = ImageWish(record.image, credentials=credentials)
        pause_s = _FIRST_PAUSE_S
        while True:
            telling = _Telling(self, record)
            telling.tell(PrewarmState.PENDING)
            try:
                async with self._turn:
                    telling.tell(PrewarmState.PULLING)
                    image = await parts.runtime.prewarm(wish, telling.note_bytes)
            except StartFailedError as error:
                telling.fail(error)
            else:
                telling.done(image.digest, image.note)
                return
            logger.warning(
                "image not pulled ahead, will be tried again",
                extra={
                    "action": "prewarm_failed",
                    "prewarm_id": record.prewarm_id,
                    "image": record.image,
                    "error": telling.status.message,
                    "pause_s": pause_s,
                },
            )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def put(self, status: PrewarmStatus) -> None:
        """An order is so here."""
        self._board.put(self._key(status.prewarm_id), status)

    def begin_status(self, record: PrewarmRecord) -> PrewarmStatus:
        """The status of an order of which nothing is known."""
        return PrewarmStatus(
            node_id=self._parts.node_id,
            prewarm_id=record.prewarm_id,
            state=PrewarmState.PENDING,
            updated_at=self._parts.clock.utc(),
        )

    def now(self, status: PrewarmStatus, **changes: object) -> PrewarmStatus:
        """The status with these changes, as of now."""
        return status.model_copy(update={**changes, "updated_at": self._parts.clock.utc()})


class _Telling:
    """What is told of one try."""

    def __init__(self, prewarms: Prewarms, record: PrewarmRecord) -> None:
        self._prewarms = prewarms
        self.status = prewarms.begin_status(record)

    def tell(self, state: PrewarmState, **changes: object) -> None:
        self.status = self._prewarms.now(self.status, state=state, **changes)
        self._prewarms.put(self.status)

    def note_bytes(self, pulled: PulledBytes) -> None:
        self.tell(self.status.state, pull_bytes=pulled.done, pull_total_bytes=pulled.total)

    def fail(self, error: StartFailedError) -> None:
        self.tell(PrewarmState.FAILED, reason=error.reason, message=str(error))

    def done(self, digest: str | None, note: str | None) -> None:
        self.tell(PrewarmState.DONE, image_digest=digest, message=note)
