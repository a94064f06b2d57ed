"""Brings one webhook its events, as fast as its receiver is to get them.

Theory of operation. The consumer is the outbox: NATS hands each event to one api at a time, and to
another when that one dies before it has settled it. What the filter wants comes in one lane, as many at
once as the receiver's pace allows. What an operator asks for, a test or a redelivery, comes in a
lane of its own and does not wait for a receiver that is held back: when it gets through, the
pace is as at first, and what waits goes out.
"""

import asyncio
from typing import Final

from penstock_api.webhooks.delivery import Delivery, Parts
from penstock_api.webhooks.lane import Lane
from penstock_api.webhooks.pace import Pace
from penstock_api.webhooks.records import Made
from penstock_common.messages import WebhookRecord
from penstock_common.nats.pull_loop import Delivered, PullLoop

#: Tests and redeliveries of one webhook at once.
ALONE_AT_ONCE: Final = 2


class Courier:
    """One webhook's deliveries by this api."""

    def __init__(self, parts: Parts, record: WebhookRecord) -> None:
        """A courier that is not started."""
        self._parts = parts
        self._record = record
        self._pace = Pace()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._wanted = Lane(
            parts.bus,
            parts.outbox.consumer_of_wanted(record),
            self._deliver,
            limit=lambda: self._pace.limit(parts.clock.monotonic()),
            wait_s=self._hold_s,
        )
        self._alone = Lane(
            parts.bus,
            parts.outbox.consumer_of_alone(record),
            self._deliver,
            limit=lambda: ALONE_AT_ONCE,
        )

    @property
    def record(self) -> WebhookRecord:
        """The webhook as this courier knows it."""
        return self._record

    async def start(self) -> None:
        """Begin; returns at once."""
        await self._wanted.start()
        await self._alone.start()

    async def change(self, record: WebhookRecord) -> None:
        """Go on with the webhook as it is now; of the same epoch."""
        old, self._record = self._record, record
        if record.url != old.url:
            self._pace = Pace()  # whatever was learnt was learnt of another receiver
            self._wanted.poke()
        if record.filter != old.filter:
            await self._wanted.change(self._parts.outbox.consumer_of_wanted(record))

    async def stop(self, grace_s: float) -> None:
        """End; attempts under way get `grace_s` seconds, what is cut short comes again."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(self._wanted.stop(grace_s), self._alone.stop(grace_s))

    async def _deliver(self, pull: PullLoop, message: Delivered) -> None:
        await Delivery(self._parts, self._record, message, self._note).make(pull)

    def _note(self, made: Made) -> None:
        self._pace = self._pace.after(made.verdict, self._parts.clock.monotonic())
        self._wanted.poke()
        hold_s = self._hold_s()
        if hold_s > 0:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(hold_s, self._wanted.poke)

    def _hold_s(self) -> float:
        return max(self._pace.hold_until - self._parts.clock.monotonic(), 0.0)
