"""The durable outbox of webhooks: JetStream consumers of each on the stream of events."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from penstock_api.webhooks.filters import subjects_of
from penstock_common import subjects
from penstock_common.entropy import random_hex
from penstock_common.errors import BusRefusedError
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.messages import WebhookRecord
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import webhook_consumer
from penstock_common.subjects import EVENTS

#: Header of an event for one webhook alone: attempts that were made before.
TRIED: Final = "Penstock-Tried"

_NAME: Final = re.compile(r"webhook(-alone)?-(?P<webhook_id>.+)-(?P<epoch>[0-9]+)")
_CONSUMER_NOT_FOUND: Final = 10014  # JetStream's err_code
_API_TIMEOUT_S: Final = 5.0


class Outbox:
    """What webhooks are still to be sent. Every call raises as `Bus.api` does."""

    def __init__(self, bus: Bus, *, ack_wait_s: float) -> None:
        """An outbox over this bus.

        Args:
            bus: the connection.
            ack_wait_s: a delivery that was not settled for so long is handed out again.
        """
        self._bus = bus
        self._ack_wait_s = ack_wait_s

    async def now(self) -> datetime:
        """The instant by the clock of NATS, which stamps what it stores."""
        answer = await self._bus.api(f"STREAM.INFO.{EVENTS}", timeout_s=_API_TIMEOUT_S)
        return datetime.fromisoformat(str(answer["ts"]))

    def consumer_of_wanted(self, record: WebhookRecord) -> Mapping[str, Any]:
        """Configuration of the consumer with the events that this webhook's filter wants."""
        name = subjects.webhook_consumer(record.webhook_id, record.epoch)
        return self._consumer(record, name, subjects_of(record.filter))

    def consumer_of_alone(self, record: WebhookRecord) -> Mapping[str, Any]:
        """Configuration of the consumer with the events for this webhook alone."""
        name = subjects.webhook_consumer_alone(record.webhook_id, record.epoch)
        return self._consumer(record, name, (subjects.webhook_event(record.webhook_id),))

    def _consumer(
        self, record: WebhookRecord, name: str, wanted: Sequence[str]
    ) -> Mapping[str, Any]:
        return webhook_consumer(name, wanted, since=record.since, ack_wait_s=self._ack_wait_s)

    async def ensure(self, record: WebhookRecord) -> None:
        """Have this webhook's consumer of wanted events, with the filter that the record says."""
        config = self.consumer_of_wanted(record)
        name = config["durable_name"]
        body = {"stream_name": EVENTS, "config": {"name": name, **config}, "action": ""}
        await self._bus.api(f"CONSUMER.CREATE.{EVENTS}.{name}", body, timeout_s=_API_TIMEOUT_S)

    async def waiting(self, record: WebhookRecord) -> int:
        """How many events wait for this webhook, those under way included."""
        counts = [await self._waiting(name) for name in _names(record.webhook_id, record.epoch)]
        return sum(counts)

    async def _waiting(self, name: str) -> int:
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{EVENTS}.{name}", timeout_s=_API_TIMEOUT_S)
        except BusRefusedError as error:
            if error.code == _CONSUMER_NOT_FOUND:
                return 0
            raise
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def hand_in(self, webhook_id: str, event: CloudEvent, *, tried: int) -> int:
        """Have this event sent to this webhook alone, whatever its filter says.

        Args:
            webhook_id: to whom.
            event: what.
            tried: attempts that were made before; it gets a whole schedule of further ones.

        Returns:
            Its sequence in the stream of events.
        """
        # The event may lie in the stream already: this is no repetition of that.
        headers = {**event.headers, TRIED: str(tried), "Nats-Msg-Id": random_hex(32)}
        stored = await self._bus.store(
            subjects.webhook_event(webhook_id), event.data, headers=headers
        )
        return stored.sequence

    async def consumers(self) -> set[tuple[str, int]]:
        """Webhook id and epoch of every consumer that there is."""
        found: set[tuple[str, int]] = set()
        offset = 0
        while True:
            answer = await self._bus.api(
                f"CONSUMER.NAMES.{EVENTS}", {"offset": offset}, timeout_s=_API_TIMEOUT_S
            )
            names = answer.get("consumers") or ()
            found |= {parsed for name in names if (parsed := _parse(name)) is not None}
            offset += len(names)
            if not names or offset >= int(answer["total"]):
                return found

    async def drop(self, webhook_id: str, epoch: int) -> None:
        """Delete a webhook's consumers, with all that waits. Deleting absent ones is fine."""
        for name in _names(webhook_id, epoch):
            try:
                await self._bus.api(f"CONSUMER.DELETE.{EVENTS}.{name}", timeout_s=_API_TIMEOUT_S)
            except BusRefusedError as error:
                if error.code != _CONSUMER_NOT_FOUND:
                    raise


def _names(webhook_id: str, epoch: int) -> tuple[str, str]:
    return (
        subjects.webhook_consumer(webhook_id, epoch),
        subjects.webhook_consumer_alone(webhook_id, epoch),
    )


def _parse(name: str) -> tuple[str, int] | None:
    """Webhook id and epoch of a consumer with this name; None = it is no webhook's."""
    match = _NAME.fullmatch(name)
    return (match["webhook_id"], int(match["epoch"])) if match else None
