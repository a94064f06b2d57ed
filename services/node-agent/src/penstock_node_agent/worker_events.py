"""Events about this node and its workers: told best effort, in order, never waited for."""

import asyncio
import logging
from typing import Final

from penstock_common import entropy, ids, subjects
from penstock_common.clock import Clock
from penstock_common.connection import Bus
from penstock_common.errors import PenstockError
from penstock_common.messages import Message, WorkerStatus, cloud_event
from penstock_common.states import WorkerState

logger = logging.getLogger(__name__)

#: More events than this wait only while NATS is away; the oldest are dropped.
_LIMIT: Final = 1_000
_TOLD: Final = frozenset(
    {WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.STOPPED, WorkerState.FAILED}
)


class WorkerEvents:
    """Publishes into the stream EVENTS."""

    def __init__(self, bus: Bus, clock: Clock, source: str) -> None:
        """`source`: the CloudEvents source, e.g. `/nodes/node-a`."""
        self._bus = bus
        self._clock = clock
        self._source = source
        self._queue: asyncio.Queue[tuple[str, dict[str, str], bytes]] = asyncio.Queue(_LIMIT)

    def worker(self, status: WorkerStatus) -> None:
        """A worker changed its state; states before `running` are not told."""
        if status.state in _TOLD:
            subject = subjects.worker_event(status.worker_id, status.state)
            self._add(subject, f"penstock.worker.{status.state}", status.worker_id, status)

    def node(self, node_id: str, verb: str, data: Message) -> None:
        """The node joined, left, or restarts its agent."""
        self._add(subjects.node_event(node_id, verb), f"penstock.node.{verb}", node_id, data)

    def _add(self, subject: str, event_type: str, about: str, data: Message) -> None:
        headers = cloud_event(
            event_id=entropy.random_id(ids.EVENT),
            event_type=event_type,
            source=self._source,
            subject=about,
            time=self._clock.utc(),
        )
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
        self._queue.put_nowait((subject, headers, data.encode()))

    async def run(self) -> None:
        """Publish, for ever. An event that NATS does not take is lost."""
        while True:
            subject, headers, data = await self._queue.get()
            try:
                await self._bus.publish(subject, data, headers=headers)
            except PenstockError as error:
                logger.info(
                    "event lost",
                    extra={"action": "event_lost", "subject": subject, "error": str(error)},
                )
            finally:
                self._queue.task_done()

    async def flush(self, wait_s: float) -> None:
        """Wait until all are published, for at most `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                await self._queue.join()
        except TimeoutError:
            logger.info("events lost at the end", extra={"action": "event_lost"})
