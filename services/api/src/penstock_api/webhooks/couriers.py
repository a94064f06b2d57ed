"""The couriers of all webhooks: one runs for each that is enabled, and none is left over.

A loop over the watched table of webhooks; a tick alone is enough to converge. Every api runs it: they
share the consumers, and NATS hands each delivery to one of them.
"""

import asyncio
import logging
from typing import Final

from penstock_api.audit.own_changes import gone_receiver
from penstock_api.audit.trail import AuditTrail
from penstock_api.store import Store
from penstock_api.webhooks.courier import Courier
from penstock_api.webhooks.delivery import Parts
from penstock_api.webhooks.records import Made, disable_gone, note_status
from penstock_api.webhooks.verdicts import Ending
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.messages import WebhookRecord, WebhookStatus
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_common.subjects import WEBHOOK_STATUS, WEBHOOKS

logger = logging.getLogger(__name__)

#: A tick comes at least so often; changes of webhooks bring one at once.
TICK_S: Final = 10.0
#: Consumers that belong to no webhook are looked for so often, and after every change.
SWEEP_S: Final = 300.0
#: Attempts under way get so long to end when the api stops.
GRACE_S: Final = 1.0
_MAX_TRIES: Final = 4


class WebhookBooks:
    """What is written of a webhook after an attempt."""

    def __init__(self, bus: Bus, store: Store, audit: AuditTrail, clock: Clock) -> None:
        self._status = Bucket(bus, WEBHOOK_STATUS)
        self._store = store
        self._audit = audit
        self._clock = clock

    async def note(self, record: WebhookRecord, made: Made) -> None:
        """Note how the receiver does; disable the webhook if it is gone."""
        try:
            await self._note_status(record.webhook_id, made)
            if made.verdict.ending is Ending.GONE:
                await self._disable(record)
        except PenstockError as error:
            logger.warning(
                "status of a webhook not noted",
                extra={
                    "action": "webhook_status_not_noted",
                    "webhook_id": record.webhook_id,
                    "error": str(error),
                },
            )

    async def _note_status(self, webhook_id: str, made: Made) -> None:
        for _ in range(_MAX_TRIES):
            entry, revision = await self._status.latest(webhook_id)
            old = WebhookStatus.decode(entry.value) if entry else None
            new = note_status(old, made, webhook_id=webhook_id, now=self._clock.utc())
            if new is None:
                return
            try:
                await self._status.put(webhook_id, new.encode(), revision=revision)
            except WrongRevisionError:
                continue
            return

    async def _disable(self, record: WebhookRecord) -> None:
        def plan(data: bytes | None) -> WebhookRecord | None:
            if data is None:
                return None
            old = WebhookRecord.decode(data)
            new = disable_gone(old, epoch=record.epoch, now=self._clock.utc())
            return None if new is old else new

        async with self._audit.own(gone_receiver(record)):
            disabled = await self._store.change_record(WEBHOOKS, record.webhook_id, plan)
        if disabled is not None:
            logger.warning(
                "webhook disabled: its receiver answered 410 Gone",
                extra={"action": "webhook_gone", "webhook_id": record.webhook_id},
            )


class Couriers:
    """Runs the couriers of this api."""

    def __init__(self, store: Store, parts: Parts) -> None:
        self._store = store
        self._parts = parts
        self._running: dict[str, Courier] = {}
        self._poked = asyncio.Event()
        self._swept_at: float | None = None
        store.on_change(self._poked.set, buckets=(WEBHOOKS,))

    async def run(self) -> None:
        """Have the right couriers run, for ever; at the end none does."""
        try:
            while True:
                await self._tick()
                try:
                    async with asyncio.timeout(TICK_S):
                        await self._poked.wait()
                except TimeoutError:
                    pass
                self._poked.clear()
        finally:
            await self._stop([*self._running], GRACE_S)

    async def _tick(self) -> None:
        if not self._store.webhooks.synced:
            return  # a table that is not current proves nothing
        enabled = {
            webhook_id: row.value
            for webhook_id, row in self._store.webhooks.rows.items()
            if row.value.enabled
        }
        over = [
            webhook_id
            for webhook_id, courier in self._running.items()
            if webhook_id not in enabled or enabled[webhook_id].epoch != courier.record.epoch
        ]
        await self._stop(over, 0.0)
        for webhook_id, record in enabled.items():
            courier = self._running.get(webhook_id)
            if courier is None:
                courier = self._running[webhook_id] = Courier(self._parts, record)
                await courier.start()
            elif courier.record != record:
                await courier.change(record)
        now = self._parts.clock.monotonic()
        if over or self._swept_at is None or now - self._swept_at >= SWEEP_S:
            await self._sweep(now)

    async def _stop(self, webhook_ids: list[str], grace_s: float) -> None:
        couriers = [self._running.pop(webhook_id) for webhook_id in webhook_ids]
        await asyncio.gather(*(courier.stop(grace_s) for courier in couriers))

    async def _sweep(self, now: float) -> None:
        """Delete consumers of webhooks that are deleted, disabled, or enabled anew since."""
        try:
            for webhook_id, epoch in sorted(await self._parts.outbox.consumers()):
                courier = self._running.get(webhook_id)
                if courier is not None and courier.record.epoch == epoch:
                    continue
                # Another api may have made it just now: the table does not prove that it may go.
                record = await self._latest(webhook_id)
                if record is None or not record.enabled or record.epoch != epoch:
                    await self._parts.outbox.drop(webhook_id, epoch)
        except PenstockError as error:
            logger.warning(
                "consumers of webhooks not swept",
                extra={"action": "webhooks_not_swept", "error": str(error)},
            )
            self._swept_at = None  # the next tick tries again
            return
        self._swept_at = now

    async def _latest(self, webhook_id: str) -> WebhookRecord | None:
        entry, _ = await Bucket(self._parts.bus, WEBHOOKS).latest(webhook_id)
        return WebhookRecord.decode(entry.value) if entry else None
