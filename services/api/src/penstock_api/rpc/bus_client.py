"""What FastStream takes for its NATS client: our `Bus`.

Theory of operation. FastStream would dial a connection of its own through nats-py, whose defaults
and habits `penstock_common` has been built to avoid: it gives up reconnecting, closes for good on
several errors, sends later what it could not send now, and goes deaf unnoticed. Of its client
FastStream needs little: `subscribe` with a callback, `publish` for the reply, `drain`. This class
gives it these over the bus that the api has anyway.

- **One subscription** in the queue group takes every call and hands each to the subscriber of its
  subject, so that a call that nobody knows is told so instead of timing out.
- **Bounded.** Each call is a task; beyond `MAX_CALLS` at once a call is refused at once.
- **Never silent.** What cannot be done or sent is answered with an error, unless NATS is away.
- **Answers go to inboxes alone**, since a caller names the subject of its answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from penstock_api.problems import RefusedError
from penstock_api.rpc.replies import error_answer
from penstock_common.errors import (
    BusDisconnectedError,
    BusTimeoutError,
    MessageTooLargeError,
    PenstockError,
)
from penstock_common.nats.connection import Bus, Received, Subscription
from penstock_common.subjects import CALLS_ALL, CALLS_QUEUE, is_inbox

logger = logging.getLogger(__name__)

#: Calls under way at once; those that write take turns anyway.
MAX_CALLS: Final = 256
_START_TRIES: Final = 5
_START_PAUSE_S: Final = 1.0


@dataclass(slots=True)
class _Message:
    """A message with the attributes that FastStream's parser reads."""

    subject: str
    data: bytes
    reply: str
    header: Mapping[str, str]
    _ackd: bool = field(default=True)


class _Listening:
    """A subscription of FastStream's; the one below it ends in `BusClient.stop`."""

    async def unsubscribe(self) -> None:
        """Do nothing."""


Callback = Callable[[_Message], Awaitable[object]]


class BusClient:
    """A NATS client to FastStream, a subscriber of the bus to us."""

    def __init__(self, bus: Bus) -> None:
        """Over this bus; nothing is subscribed yet."""
        self._bus = bus
        self._callbacks: dict[str, Callback] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    # ---- for FastStream

    def jetstream(self, **_options: object) -> object:
        """Something, since FastStream wants it; none of our subscribers is one of a stream."""
        return object()

    async def subscribe(
        self, subject: str, queue: str = "", cb: Callback | None = None, **_limits: object
    ) -> _Listening:
        """Have calls to `subject` handed to `cb`."""
        assert cb is not None
        assert queue == CALLS_QUEUE
        self._callbacks[subject] = cb
        return _Listening()

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send an answer; one that is too large for NATS becomes an error that says so."""
        sent = {name: value for name, value in (headers or {}).items() if value}
        try:
            await self._bus.publish(subject, payload, headers=sent, reply=reply)
        except MessageTooLargeError as error:
            self._refuse(
                subject,
                RefusedError(413, "answer_too_large", f"{error}; ask for fewer with `limit`"),
            )
        except PenstockError as error:
            # It was done, and the caller will see so; nobody can be told any more.
            logger.warning(
                "answer to a call not sent", extra={"action": "call_unsent", "error": str(error)}
            )

    async def drain(self) -> None:
        """Do nothing: `stop` comes first."""

    # ---- for us

    async def start(self) -> None:
        """Take calls; asks a server that is slow to confirm, or gone for a moment, some times.

        Raises:
            BusDisconnectedError, BusTimeoutError: the server did not confirm.
        """
        for attempt in range(_START_TRIES):
            try:
                self._subscription = await self._bus.subscribe(
                    CALLS_ALL, self._on_message, queue=CALLS_QUEUE
                )
                return
            except (BusDisconnectedError, BusTimeoutError) as error:
                if attempt == _START_TRIES - 1:
                    raise
                logger.warning(
                    "calls not taken yet, trying again",
                    extra={"action": "calls_not_taken", "error": str(error)},
                )
                await asyncio.sleep(_START_PAUSE_S)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls (other apis get them), and answer those under way.

        Args:
            grace_s: seconds after which those that are not answered yet are given up.
        """
        if self._subscription is not None:
            await self._subscription.drain()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning(
                    "calls given up", extra={"action": "calls_given_up", "n_calls": len(late)}
                )
                await asyncio.wait(late)

    def _on_message(self, message: Received) -> None:
        if message.reply and not is_inbox(message.reply):
            # The caller would have us write there what it may not write itself.
            logger.warning(
                "call refused, its answer is wanted on no inbox",
                extra={"action": "call_refused", "reply": message.reply},
            )
            return
        callback = self._callbacks.get(message.subject)
        if callback is None:
            known = ", ".join(sorted(self._callbacks))
            self._refuse(
                message.reply,
                RefusedError(404, "no_such_call", f"there is no such call; known are: {known}"),
            )
        elif len(self._calls) >= MAX_CALLS:
            self._refuse(
                message.reply,
                RefusedError(
                    503,
                    "too_many_calls",
                    f"{MAX_CALLS} calls are under way; try again",
                    headers={"Retry-After": "1"},
                ),
            )
        else:
            task = asyncio.create_task(self._run(callback, message), name=message.subject)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _run(self, callback: Callback, message: Received) -> None:
        try:
            await callback(_Message(message.subject, message.data, message.reply, message.headers))
        except Exception:
            # FastStream swallows what a handler raises; this would be its own.
            logger.exception("call broke", extra={"action": "call_broke"})
            self._refuse(message.reply, RefusedError(500, "internal", "the api met an error"))

    def _refuse(self, reply: str, error: RefusedError) -> None:
        logger.info("call refused", extra={"action": "call_refused", "error.type": error.reason})
        if reply:
            answer = error_answer(error)
            try:
                self._bus.publish_nowait(reply, answer.body, headers=answer.headers)
            except BusDisconnectedError:
                logger.info("refusal not sent", extra={"action": "call_unsent"})
