"""What became of each event at each webhook, in the stream DELIVERIES: one record a delivery."""

import logging
import re
from collections.abc import Callable
from typing import ClassVar, Final

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.events.cloud_event import CloudEvent, NoCloudEventError
from penstock_common.messages import DeliveryRecord
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.stream_reader import StreamReader, sequence_of
from penstock_common.subjects import DELIVERIES, EVENTS

logger = logging.getLogger(__name__)

#: So many deliveries of a webhook are known, the last that something happened to.
KEPT: Final = 1_000
#: Older ones are dropped after so many writes for the webhook by one api.
TRIM_EVERY: Final = 100
#: The id is a token of a NATS subject, and a part of what is signed.
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
#: Lost races in a row after which a write gives up; somebody else got on each time.
_MAX_TRIES: Final = 8


class DeliveryNotFoundError(PenstockError):
    """This webhook knows of no such event: it is older, was not wanted, or has not come yet."""

    error_type: ClassVar[str] = "delivery_not_found"
    status_hint: ClassVar[int] = 404


class DeliveryLog:
    """The stream DELIVERIES. Every call raises as `Bus.request` does when NATS is away."""

    def __init__(self, bus: Bus, *, kept: int = KEPT, trim_every: int = TRIM_EVERY) -> None:
        """Over this bus; nothing is sent. `kept`, `trim_every`: as `KEPT` and `TRIM_EVERY`."""
        self._bus = bus
        self._kept = kept
        self._trim_every = trim_every
        self._reader = StreamReader(bus, DELIVERIES)
        self._events = StreamReader(bus, EVENTS)
        self._writes: dict[str, int] = {}

    async def find(self, webhook_id: str, event_id: str) -> DeliveryRecord | None:
        """What became of this event at this webhook; None = nothing is known."""
        return (await self._last(webhook_id, event_id))[0] if is_event_id(event_id) else None

    async def change(
        self,
        webhook_id: str,
        event_id: str,
        plan: Callable[[DeliveryRecord | None], DeliveryRecord],
    ) -> DeliveryRecord:
        """Write what `plan` makes of the record as it is, unless that is the same object; gives it.

        `plan` is called again when somebody else wrote first.
        """
        for _ in range(_MAX_TRIES):
            old, sequence = await self._last(webhook_id, event_id)
            new = plan(old)
            if new is old:
                return new
            headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
            try:
                await self._bus.store(
                    subjects.delivery(webhook_id, event_id), new.encode(), headers=headers
                )
            except WrongRevisionError:
                continue
            await self._count_write(webhook_id)
            return new
        raise WrongRevisionError(f"the delivery of '{event_id}' is being changed by others")

    async def all_of(self, webhook_id: str) -> list[DeliveryRecord]:
        """Every delivery of this webhook that is known, in the order of their last changes."""
        found: list[DeliveryRecord] = []
        sequence, more = 0, True
        while more:
            page = await self._reader.after(sequence, subjects.delivery(webhook_id, "*"))
            found += [record for m in page.messages if (record := _decoded(m)) is not None]
            sequence, more = page.upto or sequence, page.more
        return found

    async def event_of(self, record: DeliveryRecord) -> CloudEvent | None:
        """The event of this delivery; None = it is too old."""
        message = await self._events.at(record.event_sequence)
        if message is None:
            return None
        try:
            event = CloudEvent.of_message(message.headers, message.data)
        except NoCloudEventError:
            return None  # the stream was made anew and counts from the beginning
        return event if event.attributes["id"] == record.event_id else None

    async def forget(self, webhook_id: str) -> None:
        """Drop all that is known of this webhook's deliveries."""
        self._writes.pop(webhook_id, None)
        await self._purge(webhook_id, keep=0)

    async def _count_write(self, webhook_id: str) -> None:
        writes = self._writes[webhook_id] = self._writes.get(webhook_id, 0) + 1
        if writes % self._trim_every == 0:
            await self._purge(webhook_id, keep=self._kept)

    async def _purge(self, webhook_id: str, *, keep: int) -> None:
        body = {"filter": subjects.delivery(webhook_id, "*"), **({"keep": keep} if keep else {})}
        await self._bus.api(f"STREAM.PURGE.{DELIVERIES}", body)

    async def _last(self, webhook_id: str, event_id: str) -> tuple[DeliveryRecord | None, int]:
        subject = subjects.delivery(webhook_id, event_id)
        message = await self._reader.last(subject)
        if message is None:
            return None, 0
        return _decoded(message), sequence_of(message)


def is_event_id(text: str) -> bool:
    """Whether an event with this id can be delivered; all of Penstock's can."""
    return _EVENT_ID.fullmatch(text) is not None


def _decoded(message: Received) -> DeliveryRecord | None:
    try:
        return DeliveryRecord.decode(message.data)
    except ValidationError as error:
        logger.error(
            "delivery record cannot be read, taken as absent",
            extra={
                "action": "delivery_unreadable",
                "subject": message.headers.get("Nats-Subject"),
                "error": str(error),
            },
        )
        return None
