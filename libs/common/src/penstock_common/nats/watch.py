"""A watch of a KV bucket: one push consumer from its making to its end. For `table.py`."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from penstock_common.entropy import random_secret
from penstock_common.errors import BusDisconnectedError
from penstock_common.nats.connection import Bus, Subscription
from penstock_common.nats.wire import Received

#: The server forgets a watch that nobody listens to after so long.
_INACTIVE_NS: Final = 10_000_000_000


class Watch:
    """State of one push consumer, and of the listing with which it begins."""

    def __init__(self, bus: Bus, stream: str, pattern: str) -> None:
        """One that is not made yet; `pattern`: the subjects that it hears."""
        self._bus = bus
        self._stream = stream
        self._pattern = pattern
        self._inbox = bus.new_inbox()
        self.name = f"watch-{random_secret()[:16]}"
        self._subscription: Subscription | None = None
        self._created = False
        #: messages of the consumer that came; equals its sequence as long as none is missing
        self.received = 0
        #: sequence in the stream of the last one that came
        self.reached = 0
        #: what the listing has to reach: sequence of the stream's last message before it began
        self.needed = 0
        #: as many messages came as were pending when the consumer was made
        self.counted = False
        #: the listing is whole and was taken over
        self.listed = False
        #: key → row, None = it cannot be decoded; while the listing is made
        self.listing: dict[str, Any] = {}
        #: counts everything that came, heartbeats included
        self.heard = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._initial: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the listing holds every key, as new as was needed."""
        counted = self.counted or (self._initial is not None and self.received >= self._initial)
        return counted and self.reached >= self.needed

    async def begin(
        self, on_message: Callable[[Received], None], *, heartbeat_s: float, timeout_s: float
    ) -> None:
        """Make the consumer; waits `timeout_s` for the answer.

        Raises:
            PenstockError: as `Bus.api`.
        """
        self._subscription = self._bus.subscribe_nowait(self._inbox, on_message)
        answer = await self._bus.api(
            f"CONSUMER.CREATE.{self._stream}.{self.name}.{self._pattern}",
            {
                "stream_name": self._stream,
                "action": "create",
                "config": {
                    "name": self.name,
                    "deliver_subject": self._inbox,
                    "deliver_policy": "last_per_subject",
                    "filter_subject": self._pattern,
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "replay_policy": "instant",
                    "flow_control": True,
                    "idle_heartbeat": int(heartbeat_s * 1e9),
                    "inactive_threshold": _INACTIVE_NS,
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            },
            timeout_s=timeout_s,
        )
        self._created = True
        # What the consumer has sent before its answer was written is no longer pending.
        delivered = int(answer.get("delivered", {}).get("consumer_seq", 0))
        self._initial = int(answer["num_pending"]) + delivered

    def list(self, key: str, row: object, *, gone: bool) -> None:
        """The listing has this row; None = one that cannot be decoded."""
        if gone:
            self.listing.pop(key, None)
        else:
            self.listing[key] = row

    def on_idle(self, message: Received) -> None:
        """A heartbeat, or the server asks whether we keep up."""
        # Flow control: the server waits until it hears that this message was reached.
        stalled = message.reply or message.headers.get("Nats-Consumer-Stalled", "")
        if stalled:
            with contextlib.suppress(BusDisconnectedError):
                self._bus.publish_nowait(stalled, b"")
        last = message.headers.get("Nats-Last-Consumer", "")
        if last.isdigit() and int(last) != self.received:
            self.end("messages are missing")

    def end(self, reason: str) -> None:
        """Nothing more is taken from it."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def forget(self) -> None:
        """Stop listening, and tell the server."""
        if self._subscription is not None:
            await self._subscription.close()
        if self._created:
            # At most a courtesy: the server forgets it by itself after `_INACTIVE_NS`.
            with contextlib.suppress(BusDisconnectedError):
                self._bus.publish_nowait(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self.name}", b"")
