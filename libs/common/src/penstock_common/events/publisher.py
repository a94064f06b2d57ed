"""Publishes events behind what caused them: nobody waits for one to be stored.

An event only notifies: KV is the truth, and nobody may depend on having seen one. They are stored
in the order in which they were announced. While NATS is away they wait, so many; then the oldest
are lost. One that the stream refuses time and again is lost alone. Each loss is logged.
"""

import asyncio
import logging
from typing import Final

from penstock_common import ids
from penstock_common.clock import Clock
from penstock_common.entropy import random_id
from penstock_common.errors import (
    BusDisconnectedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.events.catalogue import CATALOGUE, Event, Service, source
from penstock_common.events.cloud_event import JSON, CloudEvent, rfc3339
from penstock_common.nats.connection import Bus

logger = logging.getLogger(__name__)

#: Events that may wait to be stored.
MAX_WAITING: Final = 10_000
#: Seconds before each further try of one that was refused.
RETRY_DELAYS_S: Final = (0.2, 1.0, 3.0)
#: Seconds before a try whose predecessor reached nobody.
_UNANSWERED_PAUSE_S: Final = 0.2


class EventPublisher:
    """The events of one service."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        service: Service,
        instance: str | None = None,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """One that publishes while `run` does.

        Args:
            bus: where to.
            clock: tells when an event is announced.
            service: who announces.
            instance: which of several such, e.g. a node's id.
            max_waiting: so many events wait at most.
        """
        self._bus = bus
        self._clock = clock
        self._service = service
        self._source = source(service, instance)
        self._waiting: asyncio.Queue[tuple[Event, CloudEvent]] = asyncio.Queue(max_waiting)

    def announce(self, event: Event) -> None:
        """Have an event published soon, about what just happened.

        Raises:
            ValueError: the catalogue does not have it, or has it as another service's.
        """
        row = event.type
        if CATALOGUE.get(row.name) is not row or row.publisher is not self._service:
            raise ValueError(f"{row.name} is no event of {self._service}: see the catalogue")
        attributes = {
            "specversion": "1.0",
            "id": random_id(ids.EVENT),
            "source": self._source,
            "type": row.name,
            "subject": event.about,
            "time": rfc3339(self._clock.utc()),
            "datacontenttype": JSON,
            **event.extensions,
        }
        if self._waiting.full():
            _, oldest = self._waiting.get_nowait()
            self._waiting.task_done()
            _log_lost(oldest, "too many events wait")
        self._waiting.put_nowait((event, CloudEvent(attributes, event.data.encode())))

    async def run(self) -> None:
        """Publish what is announced, for ever."""
        while True:
            event, told = await self._waiting.get()
            try:
                await self._publish(event.subject, told)
            except asyncio.CancelledError:
                _log_lost(told, "the service stops")
                raise
            finally:
                self._waiting.task_done()

    async def flush(self, timeout_s: float) -> None:
        """Wait, for at most so long, until everything announced was stored or given up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._waiting.join()
        except TimeoutError:
            while not self._waiting.empty():
                _, told = self._waiting.get_nowait()
                self._waiting.task_done()
                _log_lost(told, "the service stops")

    async def _publish(self, subject: str, told: CloudEvent) -> None:
        # The stream drops a second copy with this id: a retry after a lost answer is no new event.
        headers = {**told.headers, "Nats-Msg-Id": told.attributes["id"]}
        refusals = 0
        while True:
            try:
                await self._bus.store(subject, told.data, headers=headers)
            except (BusDisconnectedError, BusTimeoutError, NoRespondersError) as error:
                # No other event would fare better, so the order is kept and all of them wait.
                if isinstance(error, NoRespondersError):
                    self._bus.ensure_soon()
                await asyncio.sleep(_UNANSWERED_PAUSE_S)
                await self._bus.wait_ready()
            except PenstockError as error:
                if refusals == len(RETRY_DELAYS_S):
                    _log_lost(told, str(error))
                    return
                await asyncio.sleep(RETRY_DELAYS_S[refusals])
                refusals += 1
            else:
                return


def _log_lost(told: CloudEvent, why: str) -> None:
    logger.warning(
        "event lost",
        extra={
            "action": "event_lost",
            "event_id": told.attributes["id"],
            "event_type": told.type,
            "about": told.attributes["subject"],
            "error": why,
        },
    )
