"""Messages over whatever client is connected at the moment: subscriptions, questions, answers.

An `Exchange` outlives its clients. It keeps what is subscribed, so that a new client can be given
all of it, and the questions that wait for an answer. It has no task and never dials.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from penstock_common.entropy import random_secret
from penstock_common.errors import BusDisconnectedError, BusTimeoutError, MessageTooLargeError
from penstock_common.nats.wire import (
    Received,
    WireClient,
    encode_headers,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from penstock_common.subjects import inbox_prefix

logger = logging.getLogger(__name__)

#: Longest wait for the proof that the server has what was sent.
ECHO_TIMEOUT_S: Final = 2.5


@dataclass(slots=True)
class _Subscribed:
    subject: str
    queue: str
    handler: Callable[[Received], None]
    #: the server was told to stop; a new connection is not told at all
    ending: bool = False


class Subscription:
    """A subscription that survives reconnects. Made by `Bus.subscribe`."""

    def __init__(self, exchange: "Exchange", sid: int) -> None:
        self._exchange = exchange
        self._sid = sid

    async def close(self) -> None:
        """Stop receiving: the handler is not called again. Safe to repeat, also disconnected."""
        self._exchange.stop_sending(self._sid)
        self._exchange.forget(self._sid)

    def stop_sending(self) -> None:
        """Have the server stop; what it had sent already is still handled until `close`."""
        self._exchange.stop_sending(self._sid)

    async def drain(self, *, timeout_s: float = 1.0) -> None:
        """Have the server stop, handle what it had sent already, then `close`."""
        self._exchange.stop_sending(self._sid)
        with contextlib.suppress(BusDisconnectedError, BusTimeoutError):
            await self._exchange.echo(timeout_s)
        self._exchange.forget(self._sid)


class Exchange:
    """Subscriptions and open questions of one bus."""

    def __init__(self, user: str) -> None:
        """Of the bus that logs in as `user`, which may be empty."""
        self._loop = asyncio.get_running_loop()
        #: the client that is connected; set by the link
        self.client: WireClient | None = None
        self._subscribed: dict[int, _Subscribed] = {}
        self._sids = itertools.count(1)
        self._answers: dict[str, asyncio.Future[Received]] = {}
        self._tokens = itertools.count(1)
        self._prefix = inbox_prefix(user)
        self._inbox = self.new_inbox()
        self.subscribe(f"{self._inbox}.*", "", self._on_answer)

    def new_inbox(self) -> str:
        """A subject that nobody else listens on."""
        return f"{self._prefix}.{random_secret()}"

    def subscribe(
        self, subject: str, queue: str, handler: Callable[[Received], None]
    ) -> Subscription:
        """Subscribe on this and every later client.

        Raises:
            ValueError: subject or queue group cannot be one.
        """
        sid = next(self._sids)
        command = encode_subscribe(subject, queue, sid)
        self._subscribed[sid] = _Subscribed(subject, queue, handler)
        if self.client is not None:
            self.client.send(command)
        return Subscription(self, sid)

    def subscribe_all(self, client: WireClient) -> None:
        """Give a new client every subscription."""
        for sid, subscribed in self._subscribed.items():
            if not subscribed.ending:
                client.send(encode_subscribe(subscribed.subject, subscribed.queue, sid))

    def stop_sending(self, sid: int) -> None:
        """Tell the server to send no more; what comes until `forget` is handled."""
        subscribed = self._subscribed.get(sid)
        if subscribed is not None and not subscribed.ending:
            subscribed.ending = True
            if self.client is not None:
                self.client.send(encode_unsubscribe(sid))

    def forget(self, sid: int) -> None:
        """Call the subscription's handler no more."""
        self._subscribed.pop(sid, None)

    def dispatch(self, sid: int, message: Received) -> None:
        """Hand a message to its subscription's handler; never raises."""
        subscribed = self._subscribed.get(sid)
        if subscribed is None:
            return
        try:
            subscribed.handler(message)
        except Exception:
            # Swallowed here and only here: it would end the read loop.
            logger.exception(
                "message handler failed",
                extra={"action": "handler_failed", "subject": message.subject},
            )

    def send(
        self,
        client: WireClient | None,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Write a message to `client`.

        Raises:
            BusDisconnectedError: there is no client.
            MessageTooLargeError: headers and payload together exceed the server's limit.
        """
        if client is None:
            raise BusDisconnectedError
        head = encode_headers(headers) if headers else b""
        size = len(head) + len(data)
        if size > client.max_payload:
            # The server would end the connection.
            raise MessageTooLargeError(
                f"{size} bytes for {subject}; the NATS server takes {client.max_payload}"
            )
        client.send(encode_publish(subject, reply, head, data))

    async def ask(
        self, subject: str, data: bytes, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Received:
        """The first answer to a question.

        Raises:
            BusDisconnectedError, MessageTooLargeError: as for `send`.
            BusTimeoutError: no answer in time, or the connection broke while waiting.
        """
        token, answer = self._expect_answer()
        try:
            self.send(self.client, subject, data, headers, f"{self._inbox}.{token}")
            return await self._wait(answer, subject, timeout_s)
        finally:
            del self._answers[token]

    async def echo(
        self, timeout_s: float = ECHO_TIMEOUT_S, *, client: WireClient | None = None
    ) -> None:
        """Return when the server has all that was sent, and all it sent before is handled.

        Args:
            timeout_s: seconds to wait.
            client: a client that is not `self.client` yet.

        Raises:
            BusDisconnectedError, BusTimeoutError: as for `ask`.
        """
        token, answer = self._expect_answer()
        subject = f"{self._inbox}.{token}"
        try:
            self.send(client or self.client, subject, b"")
            await self._wait(answer, subject, timeout_s)
        finally:
            del self._answers[token]

    def fail_answers(self) -> None:
        """The connection broke: nobody will answer what was asked over it."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(
                    BusTimeoutError("the NATS connection broke while waiting for an answer")
                )

    def _expect_answer(self) -> tuple[str, asyncio.Future[Received]]:
        token = str(next(self._tokens))
        answer: asyncio.Future[Received] = self._loop.create_future()
        self._answers[token] = answer
        return token, answer

    async def _wait(
        self, answer: asyncio.Future[Received], subject: str, timeout_s: float
    ) -> Received:
        timer = self._loop.call_later(timeout_s, _time_out, answer, subject, timeout_s)
        try:
            return await answer
        finally:
            timer.cancel()

    def _on_answer(self, message: Received) -> None:
        answer = self._answers.get(message.subject[len(self._inbox) + 1 :])
        if answer is not None and not answer.done():
            answer.set_result(message)


def _time_out(answer: asyncio.Future[Received], subject: str, timeout_s: float) -> None:
    if not answer.done():
        answer.set_exception(BusTimeoutError(f"no answer on {subject} within {timeout_s:g} s"))
