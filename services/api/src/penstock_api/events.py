"""Events about endpoints and nodes, published behind the request that caused them.

An event only notifies: KV is the truth, and nobody may depend on having seen one. So an event
that cannot be stored after a few tries, or finds the queue full, is logged and forgotten.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Literal

from penstock_client.documents import Document, EndpointDocument, NodeDetail, WorkerDocument
from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.connection import Bus
from penstock_common.entropy import random_id
from penstock_common.errors import PenstockError
from penstock_common.messages import cloud_event
from penstock_common.subjects import endpoint_event, node_event, worker_event

logger = logging.getLogger(__name__)

Verb = Literal["created", "updated", "deleted", "paused", "resumed", "rolled_back"]
NodeVerb = Literal["cordoned", "uncordoned", "draining"]
WorkerVerb = Literal["stop_ordered"]

#: Events that may wait to be published.
MAX_WAITING: Final = 1_000
#: Seconds before each further try.
RETRY_DELAYS_S: Final = (0.2, 1.0, 3.0)
SOURCE: Final = "/penstock/api"


@dataclass(frozen=True, slots=True)
class _Event:
    subject: str
    data: bytes
    headers: dict[str, str]


class EventPublisher:
    """Publishes events in the order in which they were announced."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waiting: asyncio.Queue[_Event] = asyncio.Queue(MAX_WAITING)

    def announce(self, verb: Verb, document: EndpointDocument) -> None:
        """Have an event published soon, about what just happened to this endpoint."""
        event_type, about = f"penstock.endpoint.{verb}", document.id
        self._announce(endpoint_event(about, verb), event_type, about, document)

    def announce_node(self, verb: NodeVerb, document: NodeDetail) -> None:
        """The same about an order given for this node."""
        event_type, about = f"penstock.node.{verb}", document.id
        self._announce(node_event(about, verb), event_type, about, document)

    def announce_worker(self, verb: WorkerVerb, document: WorkerDocument) -> None:
        """The same about an order given for this worker."""
        event_type, about = f"penstock.worker.{verb}", document.id
        self._announce(worker_event(about, verb), event_type, about, document)

    def _announce(self, subject: str, event_type: str, about: str, document: Document) -> None:
        event_id = random_id(ids.EVENT)
        headers = cloud_event(
            event_id=event_id,
            event_type=event_type,
            source=SOURCE,
            subject=about,
            time=self._clock.utc(),
        )
        # The stream drops a second copy with this id: a retry after a lost answer is no new event.
        headers["Nats-Msg-Id"] = event_id
        event = _Event(subject, document.model_dump_json().encode(), headers)
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            _log_lost(event, "too many events wait")

    async def run(self) -> None:
        """Publish what is announced, for ever."""
        while True:
            event = await self._waiting.get()
            await self._publish(event)
            self._waiting.task_done()

    async def flush(self, timeout_s: float) -> None:
        """Wait, for at most so long, until everything announced was published or given up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiting.join()
        except TimeoutError:
            while not self._waiting.empty():
                _log_lost(self._waiting.get_nowait(), "the api stops")

    async def _publish(self, event: _Event) -> None:
        for delay_s in (*RETRY_DELAYS_S, None):
            try:
                await self._bus.store(event.subject, event.data, headers=event.headers)
            except PenstockError as error:
                if delay_s is None:
                    _log_lost(event, str(error))
                    return
                await asyncio.sleep(delay_s)
            else:
                return


def _log_lost(event: _Event, why: str) -> None:
    logger.warning(
        "event lost",
        extra={
            "action": "event_lost",
            "event_id": event.headers["ce-id"],
            "event_type": event.headers["ce-type"],
            "about": event.headers["ce-subject"],
            "error": why,
        },
    )
