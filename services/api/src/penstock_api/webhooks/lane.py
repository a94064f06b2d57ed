"""Messages of one consumer, each handled by a task of its own, so many at once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from penstock_common import subjects
from penstock_common.nats.connection import Bus
from penstock_common.nats.pull_loop import Delivered, PullLoop

logger = logging.getLogger(__name__)

#: A message that came while there was no room for it comes again after so long, at least.
_BUSY_S: Final = 0.5

#: Handles a message and settles it with the loop that brought it; cancelled, it gives it back.
Handle = Callable[[PullLoop, Delivered], Awaitable[None]]


class Lane:
    """Pulls as many messages as there is room for."""

    def __init__(
        self,
        bus: Bus,
        consumer: Mapping[str, Any],
        handle: Handle,
        *,
        limit: Callable[[], int],
        wait_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """A lane that is not started.

        Args:
            bus: to pull over.
            consumer: configuration of the durable consumer.
            handle: what is done with a message.
            limit: how many messages may be handled at once; `poke` when it grows.
            wait_s: seconds until it grows, when it is 0.
        """
        self._bus = bus
        self._consumer = consumer
        self._handle = handle
        self._limit = limit
        self._wait_s = wait_s
        self._pull: PullLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin pulling; returns at once."""
        pull = self._pull = PullLoop(
            self._bus,
            stream=subjects.EVENTS,
            consumer=self._consumer,
            capacity=self._room,
            handler=lambda message: self._take(pull, message),
        )
        await pull.start()

    async def change(self, consumer: Mapping[str, Any]) -> None:
        """Go on with the consumer configured so; what is under way goes on."""
        self._consumer = consumer
        if self._pull is not None:
            await self._pull.stop()
            await self.start()

    async def stop(self, grace_s: float) -> None:
        """End; what is under way gets `grace_s` seconds."""
        if self._pull is not None:
            await self._pull.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def poke(self) -> None:
        """There may be more room than before."""
        if self._pull is not None:
            self._pull.poke()

    def _room(self) -> int:
        return self._limit() - len(self._tasks)

    def _take(self, pull: PullLoop, message: Delivered) -> None:
        if self._room() <= 0:  # it has shrunk since this was asked for
            pull.nak(message, delay_s=max(self._wait_s(), _BUSY_S))
            return
        task: asyncio.Task[None] = asyncio.ensure_future(self._run(pull, message))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def _run(self, pull: PullLoop, message: Delivered) -> None:
        try:
            await self._handle(pull, message)
        except Exception:
            # Not settled: it comes again after the consumer's ack wait.
            logger.exception(
                "delivery broke",
                extra={"action": "delivery_broke", "sequence": message.sequence},
            )

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.poke()
