"""Delivers one event to one webhook: sends it, writes down what came of it, settles it.

The record of a delivery is written before the message is settled. So an event may be sent twice (its
api died between the receiver's answer and the record), and is never lost while the stream has it.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from penstock_api.webhooks.deliveries import DeliveryLog, is_event_id
from penstock_api.webhooks.filters import wants
from penstock_api.webhooks.outbox import TRIED, Outbox
from penstock_api.webhooks.records import Made, note_attempt, valid_secrets
from penstock_api.webhooks.schedule import RetrySchedule
from penstock_api.webhooks.sender import Sender
from penstock_api.webhooks.signing import signed_headers
from penstock_api.webhooks.verdicts import Ending, Result, Unanswered, judge
from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.entropy import random_ratio
from penstock_common.errors import (
    BusDisconnectedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.events.cloud_event import STRUCTURED, CloudEvent
from penstock_common.messages import DeliveryRecord, DeliveryState, WebhookRecord
from penstock_common.nats.connection import Bus
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.sealing import SealBrokenError, Sealer

logger = logging.getLogger(__name__)

#: A message that comes so much before its next try is tried all the same.
_EARLY_S: Final = 1.0
#: After NATS was away for a moment, what needs it is tried again so soon.
_AGAIN_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """What deliveries are made with."""

    bus: Bus
    clock: Clock
    outbox: Outbox
    log: DeliveryLog
    sender: Sender
    sealer: Sealer
    schedule: RetrySchedule
    #: after an attempt its record must be written within so long
    note_timeout_s: float
    #: told of every attempt, after its record was written
    on_attempt: Callable[[WebhookRecord, Made], Awaitable[None]]


class Delivery:
    """One message from the outbox of one webhook."""

    def __init__(
        self,
        parts: Parts,
        webhook: WebhookRecord,
        message: Delivered,
        tell: Callable[[Made], None],
    ) -> None:
        """A delivery that has not begun; `tell` is told of its attempt at once."""
        self._parts = parts
        self._webhook = webhook
        self._message = message
        self._tell = tell

    async def make(self, pull: PullLoop) -> None:
        """Make it, and settle the message; cancelled, the message is given back."""
        message = self._message
        try:
            event = _readable(message)
        except ValueError as error:
            logger.warning(
                "message in the stream of events is none, not sent",
                extra={
                    "action": "event_unreadable",
                    "sequence": message.sequence,
                    "error": str(error),
                },
            )
            pull.term(message)
            return
        try:
            await self._make(pull, event)
        except asyncio.CancelledError:
            pull.nak(message)
            raise
        except PenstockError as error:
            logger.warning(
                "delivery put off",
                extra={
                    "action": "delivery_put_off",
                    "webhook_id": self._webhook.webhook_id,
                    "event_id": event.attributes["id"],
                    "error": str(error),
                },
            )
            pull.nak(message, delay_s=_AGAIN_S)

    async def _make(self, pull: PullLoop, event: CloudEvent) -> None:
        parts, webhook, message = self._parts, self._webhook, self._message
        alone = message.subject == subjects.webhook_event(webhook.webhook_id)
        stored_at = datetime.fromtimestamp(message.stored_at_ns / 1e9, UTC)
        if not alone and not wants(webhook, event, stored_at):
            pull.ack(message)
            return
        known = await parts.log.find(webhook.webhook_id, event.attributes["id"])
        if not alone and known is not None:
            if known.state is not DeliveryState.WAITING:
                pull.ack(message)
                return
            if (early_s := self._too_early(known)) > 0:
                pull.nak(message, delay_s=early_s)
                return
        tried = known.attempts[-1].n if known and known.attempts else 0
        before = int(message.headers.get(TRIED, "0"))
        made = await self._try(event, max(tried - before, 0) + 1)
        self._tell(made)
        await self._note(event, made, tried + 1)
        if made.verdict.ending is Ending.AGAIN:
            pull.nak(message, delay_s=made.verdict.wait_s)
        else:
            pull.ack(message)
        await parts.on_attempt(webhook, made)

    def _too_early(self, known: DeliveryRecord) -> float:
        """Seconds until its next try, if that is worth waiting for; else 0.

        NATS hands a message out early when it has restarted.
        """
        if known.next_try_at is None:
            return 0.0
        wait_s = (known.next_try_at - self._parts.clock.utc()).total_seconds()
        return wait_s if wait_s > _EARLY_S else 0.0

    async def _try(self, event: CloudEvent, attempt: int) -> Made:
        """Make the attempt of this number in the schedule."""
        clock = self._parts.clock
        at, began = clock.utc(), clock.monotonic()
        result = await self._send(event, at)
        verdict = judge(
            result, attempt=attempt, schedule=self._parts.schedule, ratio=random_ratio()
        )
        return Made(at, clock.monotonic() - began, result, verdict)

    async def _send(self, event: CloudEvent, at: datetime) -> Result:
        webhook = self._webhook
        body = json.dumps(event.document, separators=(",", ":")).encode()
        sealed = {name: webhook.sealed[name] for name in valid_secrets(webhook, at)}
        try:
            secrets = self._parts.sealer.open(sealed)
        except SealBrokenError:
            return Unanswered("the secret was sealed with another key; rotate it to have a new one")
        headers = {
            "Content-Type": f"{STRUCTURED}; charset=utf-8",
            **signed_headers(
                list(secrets.values()), message_id=event.attributes["id"], at=at, body=body
            ),
        }
        return await self._parts.sender.send(webhook.url, headers, body)

    async def _note(self, event: CloudEvent, made: Made, n: int) -> None:
        """Write the record, also when NATS is away for a moment: else the event is sent twice."""
        now = self._parts.clock.utc()
        webhook_id, event_id = self._webhook.webhook_id, event.attributes["id"]
        logger.log(
            logging.DEBUG if made.error is None else logging.INFO,
            "delivery attempted",
            extra={
                "action": "delivery_attempted",
                "webhook_id": webhook_id,
                "event_id": event_id,
                "attempt": n,
                "ending": made.verdict.ending.value,
                "error": made.error,
                "duration_s": round(made.duration_s, 3),
            },
        )

        def plan(old: DeliveryRecord | None) -> DeliveryRecord:
            return note_attempt(
                old,
                made,
                event,
                webhook_id=webhook_id,
                n=n,
                sequence=self._message.sequence,
                now=now,
            )

        try:
            async with asyncio.timeout(self._parts.note_timeout_s):
                while True:
                    try:
                        await self._parts.log.change(webhook_id, event_id, plan)
                    except (BusDisconnectedError, BusTimeoutError, NoRespondersError):
                        await asyncio.sleep(_AGAIN_S)
                        await self._parts.bus.wait_ready()
                    else:
                        return
        except TimeoutError:
            raise BusTimeoutError from None


def _readable(message: Delivered) -> CloudEvent:
    """The event in this message.

    Raises:
        ValueError: it holds none, or none that can be delivered.
    """
    event = CloudEvent.of_message(message.headers, message.data)
    if not is_event_id(event.attributes["id"]):
        raise ValueError("its id holds more than letters, digits, - and _")
    if event.time is None:
        raise ValueError("it does not say when it happened")
    return event
