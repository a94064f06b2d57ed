"""Delivers the events of one webhook: pulls them, sends them, settles them.

Theory of operation. The consumer is the outbox: NATS hands each event to one api at a time, and again
when that one dies before it has settled it. The record of a delivery says what came of it so far; it
is written before the message is settled. So an event may be sent twice (its api died between the
receiver's answer and the record), and is never lost while the stream has it.

A courier's messages are handled each by a task of its own, `Pace.limit` at a time, so neither a slow
receiver nor a slow event holds up another webhook.
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
from penstock_api.webhooks.pace import Pace
from penstock_api.webhooks.records import Made, note_attempt, valid_secrets
from penstock_api.webhooks.schedule import RetrySchedule
from penstock_api.webhooks.sender import Sender
from penstock_api.webhooks.signing import signed_headers
from penstock_api.webhooks.verdicts import Ending, Result, Unanswered, judge
from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.connection import Bus
from penstock_common.entropy import random_ratio
from penstock_common.errors import (
    BusDisconnectedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.events.cloud_event import STRUCTURED, CloudEvent
from penstock_common.messages import DeliveryRecord, DeliveryState, WebhookRecord
from penstock_common.pull_loop import Delivered, PullLoop
from penstock_common.sealing import SealBrokenError, Sealer

logger = logging.getLogger(__name__)

#: A message that comes so much before its next try is tried all the same.
_EARLY_S: Final = 1.0
#: A message that came while there was no capacity, or NATS away, comes again after so long.
_BUSY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Parts:
    """What couriers work with."""

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


class Courier:
    """One webhook's deliveries by this api."""

    def __init__(self, parts: Parts, record: WebhookRecord) -> None:
        """A courier that is not started."""
        self._parts = parts
        self._record = record
        self._pace = Pace()
        self._pull: PullLoop | None = None
        self._attempts: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def record(self) -> WebhookRecord:
        """The webhook as this courier knows it."""
        return self._record

    async def start(self) -> None:
        """Begin pulling; returns at once."""
        pull = self._pull = PullLoop(
            self._parts.bus,
            stream=subjects.EVENTS,
            consumer=self._parts.outbox.consumer_of(self._record),
            capacity=self._capacity,
            handler=lambda message: self._take(pull, message),
        )
        await pull.start()

    async def change(self, record: WebhookRecord) -> None:
        """Go on with the webhook as it is now; of the same epoch."""
        old, self._record = self._record, record
        if record.url != old.url:
            self._pace = Pace()  # whatever was learnt was learnt of another receiver
            self._poke()
        if record.filter != old.filter and self._pull is not None:
            await self._pull.stop()
            await self.start()

    async def stop(self, grace_s: float) -> None:
        """End; attempts under way get `grace_s` seconds, what is cut short comes again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._pull is not None:
            await self._pull.stop()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=grace_s)
            for attempt in late:
                attempt.cancel()
            if late:
                await asyncio.wait(late)

    # ---- how much, and when

    def _capacity(self) -> int:
        return self._pace.limit(self._parts.clock.monotonic()) - len(self._attempts)

    def _take(self, pull: PullLoop, message: Delivered) -> None:
        if self._capacity() <= 0:
            hold_s = self._pace.hold_until - self._parts.clock.monotonic()
            pull.nak(message, delay_s=max(hold_s, _BUSY_S))
            return
        attempt = asyncio.create_task(self._handle(pull, message), name="webhook-delivery")
        self._attempts.add(attempt)
        attempt.add_done_callback(self._on_done)

    def _on_done(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            # Not settled: it comes again after the ack wait.
            logger.error(
                "delivery broke",
                extra={"action": "delivery_broke", "webhook_id": self._record.webhook_id},
                exc_info=error,
            )
        self._poke()

    def _poke(self) -> None:
        if self._pull is None:
            return
        self._pull.poke()
        hold_s = self._pace.hold_until - self._parts.clock.monotonic()
        if hold_s > 0:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(hold_s, self._pull.poke)

    # ---- one message

    async def _handle(self, pull: PullLoop, message: Delivered) -> None:
        try:
            event = _readable(message)
        except ValueError as error:
            logger.warning(
                "message in the stream of events is none, not sent",
                extra={"action": "event_unreadable", "sequence": message.sequence}
                | {"error": str(error)},
            )
            pull.term(message)
            return
        try:
            await self._deliver(pull, message, event)
        except asyncio.CancelledError:
            pull.nak(message)
            raise
        except PenstockError as error:
            logger.warning(
                "delivery put off",
                extra={
                    "action": "delivery_put_off",
                    "webhook_id": self._record.webhook_id,
                    "event_id": event.attributes["id"],
                    "error": str(error),
                },
            )
            pull.nak(message, delay_s=_BUSY_S)

    async def _deliver(self, pull: PullLoop, message: Delivered, event: CloudEvent) -> None:
        parts, record = self._parts, self._record
        alone = message.subject == subjects.webhook_event(record.webhook_id)
        stored_at = datetime.fromtimestamp(message.stored_at_ns / 1e9, UTC)
        if not alone and not wants(record, event, stored_at):
            pull.ack(message)
            return
        known = await parts.log.find(record.webhook_id, event.attributes["id"])
        if not alone and known is not None:
            if known.state is not DeliveryState.WAITING:
                pull.ack(message)
                return
            if (early_s := self._too_early(known)) > 0:
                pull.nak(message, delay_s=early_s)
                return
        tried = known.attempts[-1].n if known and known.attempts else 0
        before = int(message.headers.get(TRIED, "0"))
        made = await self._try(record, event, max(tried - before, 0) + 1)
        self._pace = self._pace.after(made.verdict, parts.clock.monotonic())
        await self._note(record, event, made, n=tried + 1, sequence=message.sequence)
        if made.verdict.ending is Ending.AGAIN:
            pull.nak(message, delay_s=made.verdict.wait_s)
        else:
            pull.ack(message)
        await parts.on_attempt(record, made)

    def _too_early(self, known: DeliveryRecord) -> float:
        """Seconds until its next try, if that is worth waiting for; else 0.

        NATS hands a message out early when it has restarted.
        """
        if known.next_try_at is None:
            return 0.0
        wait_s = (known.next_try_at - self._parts.clock.utc()).total_seconds()
        return wait_s if wait_s > _EARLY_S else 0.0

    async def _try(self, record: WebhookRecord, event: CloudEvent, attempt: int) -> Made:
        """Make the attempt of this number in the schedule."""
        clock = self._parts.clock
        at, began = clock.utc(), clock.monotonic()
        result = await self._send(record, event, at)
        verdict = judge(
            result, attempt=attempt, schedule=self._parts.schedule, ratio=random_ratio()
        )
        return Made(at, clock.monotonic() - began, result, verdict)

    async def _send(self, record: WebhookRecord, event: CloudEvent, at: datetime) -> Result:
        body = json.dumps(event.document, separators=(",", ":")).encode()
        sealed = {name: record.sealed[name] for name in valid_secrets(record, at)}
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
        return await self._parts.sender.send(record.url, headers, body)

    async def _note(
        self, record: WebhookRecord, event: CloudEvent, made: Made, *, n: int, sequence: int
    ) -> None:
        now = self._parts.clock.utc()
        event_id = event.attributes["id"]
        logger.log(
            logging.DEBUG if made.error is None else logging.INFO,
            "delivery attempted",
            extra={
                "action": "delivery_attempted",
                "webhook_id": record.webhook_id,
                "event_id": event_id,
                "attempt": n,
                "ending": made.verdict.ending.value,
                "error": made.error,
                "duration_s": round(made.duration_s, 3),
            },
        )
        await self._write(
            record.webhook_id,
            event_id,
            lambda old: note_attempt(
                old,
                made,
                event,
                webhook_id=record.webhook_id,
                n=n,
                sequence=sequence,
                now=now,
            ),
        )

    async def _write(
        self,
        webhook_id: str,
        event_id: str,
        plan: Callable[[DeliveryRecord | None], DeliveryRecord],
    ) -> None:
        """Write the record, also when NATS is away for a moment: else the event is sent twice."""
        try:
            async with asyncio.timeout(self._parts.note_timeout_s):
                while True:
                    try:
                        await self._parts.log.change(webhook_id, event_id, plan)
                    except (BusDisconnectedError, BusTimeoutError, NoRespondersError):
                        await asyncio.sleep(_BUSY_S)
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
