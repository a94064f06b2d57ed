"""The durable outbox of webhooks: one JetStream consumer a webhook on the stream of events."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from penstock_api.webhooks.filters import subjects_of
from penstock_common import subjects
from penstock_common.connection import Bus
from penstock_common.entropy import random_hex
from penstock_common.errors import BusRefusedError
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.messages import WebhookRecord
from penstock_common.streams import webhook_consumer
from penstock_common.subjects import EVENTS

#: Header of an event for one webhook alone: attempts that were made before.
TRIED: Final = "Penstock-Tried"

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

    def consumer_of(self, record: WebhookRecord) -> Mapping[str, Any]:
        """Configuration of the consumer with what this webhook is still to be sent."""
        return webhook_consumer(
            record.webhook_id,
            record.epoch,
            subjects_of(record.filter),
            since=record.since,
            ack_wait_s=self._ack_wait_s,
        )

    async def ensure(self, record: WebhookRecord) -> None:
        """Have this webhook's consumer, with the filter that the record says."""
        config = self.consumer_of(record)
        name = config["durable_name"]
        body = {"stream_name": EVENTS, "config": {"name": name, **config}, "action": ""}
        await self._bus.api(f"CONSUMER.CREATE.{EVENTS}.{name}", body, timeout_s=_API_TIMEOUT_S)

    async def waiting(self, record: WebhookRecord) -> int:
        """How many events wait for this webhook, those under way included; 0 = no consumer."""
        name = subjects.webhook_consumer(record.webhook_id, record.epoch)
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

    async def consumers(self) -> list[tuple[str, int]]:
        """Webhook id and epoch of every consumer that there is."""
        found: list[tuple[str, int]] = []
        offset = 0
        while True:
            answer = await self._bus.api(
                f"CONSUMER.NAMES.{EVENTS}", {"offset": offset}, timeout_s=_API_TIMEOUT_S
            )
            names = answer.get("consumers") or ()
            found += [parsed for name in names if (parsed := _parse(name)) is not None]
            offset += len(names)
            if not names or offset >= int(answer["total"]):
                return found

    async def drop(self, webhook_id: str, epoch: int) -> None:
        """Delete a consumer, with all that waits in it. Deleting an absent one is fine."""
        name = subjects.webhook_consumer(webhook_id, epoch)
        try:
            await self._bus.api(f"CONSUMER.DELETE.{EVENTS}.{name}", timeout_s=_API_TIMEOUT_S)
        except BusRefusedError as error:
            if error.code != _CONSUMER_NOT_FOUND:
                raise


def _parse(name: str) -> tuple[str, int] | None:
    webhook_id, _, epoch = name.removeprefix(subjects.WEBHOOK_CONSUMER_PREFIX).rpartition("-")
    if not name.startswith(subjects.WEBHOOK_CONSUMER_PREFIX) or not epoch.isdigit():
        return None
    return webhook_id, int(epoch)
