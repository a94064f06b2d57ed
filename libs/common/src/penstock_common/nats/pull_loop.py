"""A pull loop on a durable consumer: as many messages as there is capacity for.

Theory of operation. A loop has one runner task that walks for ever through

    connected → make the consumer → session → (ended) → pause → …

A *session* is one inbox and the pull requests that are open on it. Its rule: the messages asked
for and not yet come are as many as `capacity()` (or more, right after capacity shrank: they are
the handler's to deal with). An open request waits at the server, so an idle loop costs one
request every `EXPIRES_S`, and a message comes without a round trip of ours.

Every request ends in one of these ways: filled; expired (408, or 404); refused (409, 503) or
silent past its expiry. The first two are everyday. After the others the session ends and the next
one makes the consumer anew, with growing pauses: a deleted consumer or stream never makes a hot
loop. A session also ends with its connection; the inbox is new each time, so the server drops
what an old session asked for.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from penstock_common.entropy import random_ratio
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.nats.connection import Bus, Subscription
from penstock_common.nats.retry import Backoff, patience
from penstock_common.nats.wire import DESCRIPTION, Received, parse_ack_subject, status_of

logger = logging.getLogger(__name__)

#: How long the server keeps a pull request open.
EXPIRES_S: Final = 3.0
#: Requests made while another is open expire with it, and are then asked for as one again, so
#: that an idle loop comes down to one open request. One made so shortly before begins a new round.
_ROUND_TAIL_S: Final = 0.5
#: The expiries of one round come within so long; then the next round begins.
_ROUND_GATHER_S: Final = 0.002
#: A request that the server has not ended so long after its expiry is lost.
_GRACE_S: Final = 1.0
#: Open requests of one loop: a server keeps a limited number per consumer, for all its pullers.
#: One filled request frees its place, and the next one asks for all the capacity at once.
_MAX_OPEN: Final = 8

_STREAM_NOT_FOUND: Final = 10059  # JetStream's err_code


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message of a stream, to be settled by exactly one of ack, nak, term."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    #: how often it was delivered, from 1
    attempt: int
    #: messages left in the consumer after this one
    pending: int
    ack_subject: str
    #: where it lies in the stream, and since when: nanoseconds since 1970 by the server's clock
    sequence: int
    stored_at_ns: int


@dataclass(slots=True)
class _Request:
    """A place for one pull request at a time, with a reply subject of its own.

    A delivery bears the stream's subject, so only the subscription tells which request it fills.
    """

    reply: str
    subscription: Subscription | None = None
    #: messages that the open request may still bring; 0 = none is open
    remaining: int = 0
    timer: asyncio.TimerHandle | None = None

    def finish(self) -> None:
        self.remaining = 0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(slots=True)
class _Session:
    inbox: str
    ended: asyncio.Future[str]
    requests: list[_Request] = field(default_factory=list)
    #: event loop's time at which the open requests expire
    round_ends_at: float = 0.0
    #: whether the server ever answered a request as it should
    worked: bool = False

    @property
    def asked(self) -> int:
        return sum(request.remaining for request in self.requests)

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


class PullLoop:
    """Keeps pull requests open that ask for the capacity there is."""

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str,
        consumer: Mapping[str, Any],
        capacity: Callable[[], int],
        handler: Callable[[Delivered], None],
    ) -> None:
        """A loop that is not started.

        Args:
            bus: the connection to pull over.
            stream: name of the stream.
            consumer: configuration of the durable consumer, e.g. `streams.ticket_consumer(…)`; the
                loop makes it at the start, after a reconnect and when it was deleted.
            capacity: how many messages may come now, not counting those that were handed to
                `handler`; 0 or less = none. `poke` when it grows.
            handler: takes a message; plain and short. It must settle it, at once or later, also
                when it has no capacity left for it: what it raises is logged and the message
                comes again after the consumer's `ack_wait`.
        """
        self._bus = bus
        self._stream = stream
        self._consumer = dict(consumer)
        self._consumer_name = str(consumer["durable_name"])
        self._capacity = capacity
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._session: _Session | None = None
        self._ask_is_due = False
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False
        self._remove_callback: Callable[[], None] | None = None

    @property
    def asked(self) -> int:
        """Messages asked for and not yet come."""
        return self._session.asked if self._session is not None else 0

    def poke(self) -> None:
        """Capacity changed: ask again if more is wanted than is asked for. Cheap."""
        if not self._ask_is_due and self._session is not None:
            self._ask_is_due = True
            self._loop.call_soon(self._ask)

    async def start(self) -> None:
        """Begin pulling; returns at once. Needs no connection yet."""
        if self._runner is not None:
            raise RuntimeError("the loop was started before")
        self._stopping = False
        self._remove_callback = self._bus.on_disconnect(self._on_disconnect)
        self._runner = asyncio.create_task(self._run(), name=f"pull-{self._consumer_name}")

    async def stop(self) -> None:
        """End; messages on their way are nak'ed. Safe to repeat; takes at most some 2 s."""
        self._stopping = True
        if self._remove_callback is not None:
            self._remove_callback()
            self._remove_callback = None
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait({runner})

    def ack(self, message: Delivered) -> None:
        """Done with it. While disconnected nothing is sent and the message comes again."""
        self._settle(message, b"+ACK")

    def nak(self, message: Delivered, *, delay_s: float = 0.0) -> None:
        """Give it to somebody (else) again after `delay_s`. While disconnected: as for `ack`."""
        if delay_s > 0:
            self._settle(message, b"-NAK " + json.dumps({"delay": int(delay_s * 1e9)}).encode())
        else:
            self._settle(message, b"-NAK")

    def term(self, message: Delivered) -> None:
        """Never deliver it again (it cannot be understood). While disconnected: as for `ack`."""
        self._settle(message, b"+TERM")

    def in_progress(self, message: Delivered) -> None:
        """Still working on it: restart its ack wait. While disconnected: as for `ack`."""
        self._settle(message, b"+WPI")

    # ---- the runner

    async def _run(self) -> None:
        backoff, wait = Backoff(), patience()
        while True:
            await self._bus.wait_ready()
            session = _Session(
                inbox=self._bus.new_inbox(), ended=asyncio.get_running_loop().create_future()
            )
            ended = "broke"
            try:
                await self._make_consumer(wait.pause_s(1.0))
                self._session = session
                self._ask()
                ended = await session.ended
            except BusDisconnectedError:
                ended = "disconnected"
            except PenstockError as error:
                ended = str(error)
                if isinstance(error, NoRespondersError) or (
                    isinstance(error, BusRefusedError) and error.code == _STREAM_NOT_FOUND
                ):
                    self._bus.ensure_soon()
            except Exception:
                logger.exception("pull session broke", extra={"action": "pull_broke"})
            finally:
                await self._close_session(session)
            if session.worked:
                backoff.reset()
                wait.reset()
            if not self._bus.connected:
                continue
            logger.info(
                "pull session ended, beginning anew",
                extra={
                    "action": "pull_ended",
                    "stream": self._stream,
                    "consumer": self._consumer_name,
                    "reason": ended,
                },
            )
            await asyncio.sleep(backoff.pause_s(random_ratio()))

    async def _make_consumer(self, timeout_s: float) -> None:
        name = self._consumer_name
        verb = f"CONSUMER.CREATE.{self._stream}.{name}"
        if "filter_subject" in self._consumer:
            verb += f".{self._consumer['filter_subject']}"
        config = {"name": name, **self._consumer}
        await self._bus.api(
            verb, {"stream_name": self._stream, "config": config, "action": ""}, timeout_s=timeout_s
        )

    async def _close_session(self, session: _Session) -> None:
        self._session = None
        session.end("closed")
        for request in session.requests:
            request.finish()
        subscriptions = [r.subscription for r in session.requests if r.subscription is not None]
        if subscriptions:
            # What is on its way comes before the last one's drain ends, and is nak'ed.
            for subscription in subscriptions[:-1]:
                subscription.stop_sending()
            await subscriptions[-1].drain()
            for subscription in subscriptions:
                await subscription.close()

    def _on_disconnect(self) -> None:
        if self._session is not None:
            self._session.end("disconnected")

    # ---- asking

    def _ask(self) -> None:
        self._ask_is_due = False
        session = self._session
        if session is None or session.ended.done():
            return
        try:
            batch = self._capacity() - session.asked
        except Exception:
            logger.exception(
                "capacity failed",
                extra={"action": "capacity_failed", "consumer": self._consumer_name},
            )
            return
        request = self._free_request(session) if batch > 0 else None
        if request is None:
            return
        now = self._loop.time()
        if session.asked == 0 or session.round_ends_at - now < _ROUND_TAIL_S:
            session.round_ends_at = now + EXPIRES_S
        expires_s = session.round_ends_at - now
        body = b'{"batch":%d,"expires":%d}' % (batch, int(expires_s * 1e9))
        try:
            self._bus.publish_nowait(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer_name}",
                body,
                reply=request.reply,
            )
        except BusDisconnectedError:
            session.end("disconnected")
            return
        request.remaining = batch
        request.timer = self._loop.call_later(
            expires_s + _GRACE_S, session.end, "a pull request got no answer"
        )

    def _free_request(self, session: _Session) -> _Request | None:
        for request in session.requests:
            if not request.remaining:
                return request
        if len(session.requests) == _MAX_OPEN:
            return None
        request = _Request(f"{session.inbox}.{len(session.requests)}")
        request.subscription = self._bus.subscribe_nowait(
            request.reply, lambda message: self._on_message(session, request, message)
        )
        session.requests.append(request)
        return request

    # ---- messages

    def _on_message(self, session: _Session, request: _Request, message: Received) -> None:
        status = status_of(message)
        if not status:
            self._on_delivery(session, request, message)
            return
        if status == 100:  # idle heartbeat; none was asked for
            return
        request.finish()
        description = message.headers.get(DESCRIPTION, "")
        if status in (404, 408) or description.startswith("Batch Completed"):
            session.worked = True
            if not self._ask_is_due:
                self._ask_is_due = True
                self._loop.call_later(_ROUND_GATHER_S, self._ask)
        else:
            session.end(f"status {status} {description}".strip())

    def _on_delivery(self, session: _Session, request: _Request, message: Received) -> None:
        try:
            ack = parse_ack_subject(message.reply)
        except ValueError:
            logger.warning(
                "message is no delivery, skipped",
                extra={"action": "delivery_unreadable", "consumer": self._consumer_name},
            )
            return
        delivered = Delivered(
            subject=message.subject,
            data=message.data,
            headers=message.headers,
            attempt=ack.attempt,
            pending=ack.pending,
            ack_subject=message.reply,
            sequence=ack.stream_sequence,
            stored_at_ns=ack.stored_at_ns,
        )
        session.worked = True
        request.remaining -= 1
        if request.remaining <= 0:
            request.finish()
        if session is not self._session or self._stopping:
            self._settle(delivered, b"-NAK")
            return
        try:
            self._handler(delivered)
        finally:
            self.poke()

    def _settle(self, message: Delivered, verdict: bytes) -> None:
        try:
            self._bus.publish_nowait(message.ack_subject, verdict)
        except BusDisconnectedError:
            logger.debug(
                "not settled while disconnected, will be delivered again",
                extra={"action": "settle_skipped", "ack_subject": message.ack_subject},
            )
