"""One NATS connection that outlives its client.

`Bus` is what the rest of Penstock knows of NATS. Below it: `exchange.py` (subscriptions,
questions and answers), `link.py` (dial, watch, reconnect), `wire.py` (one connection
of the NATS client) and `tls.py` (encryption). What holds for all of its methods:

- **Errors.** `BusDisconnectedError`: not connected, surely nothing was sent. `BusTimeoutError`: it
  was sent, no answer came in time or before the connection broke: it may or may not have been
  done. Nothing is kept to be sent later.
- **Handlers and callbacks** are plain functions, called in the order of the wire. What they raise
  is logged and goes no further, or one bad message would end the read loop.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock_common.clock import Clock
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
    WrongRevisionError,
)
from penstock_common.nats.exchange import Exchange, Subscription
from penstock_common.nats.link import Link, without_login
from penstock_common.nats.wire import Received, WireClient, status_of
from penstock_common.settings import NatsSettings

__all__ = ["ANSWER_S", "Bus", "Received", "Stored", "Subscription", "parse_api_answer"]

#: `close` lets the server have what was published last for so long.
_FAREWELL_S: Final = 0.5
#: A question waits so long for its answer, unless it or its connection is told otherwise.
ANSWER_S: Final = 2.0
#: Publishers wait while more than this has not been taken by the kernel …
_MAX_UNSENT_BYTES: Final = 4 * 1024 * 1024
#: … for at most so long, looking so often.
_UNSENT_TIMEOUT_S: Final = 2.0
_UNSENT_LOOK_S: Final = 0.001

#: JetStream's err_codes for "wrong last sequence".
_WRONG_REVISION_CODES: Final = frozenset({10071, 10164})


@dataclass(frozen=True, slots=True)
class Stored:
    """JetStream's acknowledgement of a publish."""

    sequence: int
    #: true = the stream had this `Nats-Msg-Id` already and stored nothing
    duplicate: bool


class Bus:
    """A connection to NATS: reconnects for ever, never deaf, no exception out of a callback."""

    def __init__(
        self, settings: NatsSettings, *, name: str, clock: Clock, answer_s: float = ANSWER_S
    ) -> None:
        """Not connected yet; use `connect`."""
        self._answer_s = answer_s
        self._exchange = Exchange(settings.nats_user)
        self._link = Link(self._exchange, settings, name=name, clock=clock)

    @classmethod
    async def connect(
        cls,
        settings: NatsSettings,
        *,
        name: str,
        clock: Clock,
        wait_s: float = 30.0,
        answer_s: float = ANSWER_S,
    ) -> "Bus":
        """A connected bus; waits up to `wait_s` for the first connection.

        Args:
            settings: where the server is and as whom to log in.
            name: of the connection, shown in the server's monitor.
            clock: tells a frozen server from a stalled process.
            wait_s: seconds to keep trying.
            answer_s: seconds that a question waits for its answer where it does not say itself.
                Short for who asks again by itself, longer for who cannot; while a server is gone
                or frozen nothing waits for longer than it takes to notice that.

        Raises:
            BusDisconnectedError: no server took the connection in time; the message says why.
            MisconfiguredError: `settings.nats_url` cannot be one, or what TLS takes is amiss.
        """
        bus = cls(settings, name=name, clock=clock, answer_s=answer_s)
        try:
            await bus._link.open(wait_s)
        except TimeoutError:
            await bus._link.close()
            raise BusDisconnectedError(
                f"no NATS connection to {without_login(settings.nats_url)} within {wait_s:g} s"
                + (f": {bus._link.problem}" if bus._link.problem else "")
            ) from None
        except BaseException:
            await bus._link.close()
            raise
        return bus

    @property
    def connected(self) -> bool:
        """Whether the connection is up right now."""
        return self._exchange.client is not None

    @property
    def generation(self) -> int:
        """Counts connections made, from 1; it changes with every reconnect."""
        return self._link.generation

    async def wait_ready(self) -> None:
        """Return once connected, with the ensure hooks run; for ever while there is no server."""
        await self._link.ready.wait()

    def new_inbox(self) -> str:
        """A subject that nobody else listens on."""
        return self._exchange.new_inbox()

    def on_connect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every later (re)connect; the answer removes it.

        It is called when all subscriptions are back and the ensure hooks have run.
        """
        return self._link.on_connect.add(callback)

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection is lost; the answer removes it."""
        return self._link.on_disconnect.add(callback)

    def ensure(self, name: str, hook: Callable[[], Awaitable[None]]) -> None:
        """Run `hook` after every reconnect, before the `on_connect` callbacks.

        A hook makes again what others rely on and a restart of the server may have lost. It must
        be safe to repeat; it is tried again until it ends without an error.

        Args:
            name: registering the same name again replaces the hook.
            hook: may use this bus; has 10 s.
        """
        self._link.ensure_hooks[name] = hook

    def ensure_soon(self) -> None:
        """Something is missing on the server: run the ensure hooks (at most once a second)."""
        self._link.ensure_soon()

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send a core message now, or raise: nothing is sent later.

        Waits while the server is slow to take what was written before, up to 2 s.

        Raises:
            BusDisconnectedError: not connected.
            BusTimeoutError: the server does not take our bytes; this message was not sent.
            MessageTooLargeError: headers and payload together exceed the server's limit.
        """
        client = self._exchange.client
        if client is not None and client.unsent_bytes > _MAX_UNSENT_BYTES:
            await self._wait_for_room(client)
        self._exchange.send(self._exchange.client, subject, data, headers, reply)

    def publish_nowait(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """`publish` for callbacks: sends in this turn of the event loop, however much waits.

        Raises:
            BusDisconnectedError: not connected.
            MessageTooLargeError: headers and payload together exceed the server's limit.
        """
        self._exchange.send(self._exchange.client, subject, data, headers, reply)

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Received:
        """The answer of one responder.

        Args:
            subject: where to ask.
            data: the question.
            timeout_s: seconds to wait for the answer; None = the connection's own.
            headers: of the question.

        Raises:
            BusDisconnectedError: not connected; nothing was sent.
            BusTimeoutError: no answer in time, or the connection broke while waiting; the request
                may or may not have been served.
            NoRespondersError: nobody subscribes to `subject`.
            MessageTooLargeError: headers and payload together exceed the server's limit.
        """
        wait_s = self._answer_s if timeout_s is None else timeout_s
        answer = await self._exchange.ask(subject, data, wait_s, headers)
        if status_of(answer) == 503 and not answer.data:
            raise NoRespondersError(f"nobody serves the NATS subject {subject}")
        return answer

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Stored:
        """Publish into a stream and wait for its acknowledgement.

        Raises:
            WrongRevisionError: an expected-sequence header does not hold; nothing was stored.
            BusRefusedError: the stream refused it otherwise (`code` says why); nothing was stored.
            NoRespondersError: no stream takes this subject.
            BusDisconnectedError: not connected; nothing was sent.
            BusTimeoutError: no acknowledgement; it may or may not have been stored.
            MessageTooLargeError: headers and payload together exceed the server's limit.
        """
        answer = await self.request(subject, data, timeout_s=timeout_s, headers=headers)
        ack = parse_api_answer(answer.data)
        return Stored(sequence=int(ack["seq"]), duplicate=bool(ack.get("duplicate", False)))

    async def api(
        self, verb: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Mapping[str, Any]:
        """The answer of JetStream's API to `$JS.API.<verb>`.

        Raises:
            BusRefusedError: it said no; `code` is JetStream's err_code.
            NoRespondersError: JetStream is off or not up yet.
            BusDisconnectedError, BusTimeoutError: as for `request`.
        """
        data = json.dumps(body).encode() if body is not None else b""
        answer = await self.request(f"$JS.API.{verb}", data, timeout_s=timeout_s)
        return parse_api_answer(answer.data)

    async def subscribe(
        self, subject: str, handler: Callable[[Received], None], *, queue: str = ""
    ) -> Subscription:
        """Call `handler` for each message; returns when the server has the subscription.

        Args:
            subject: may hold wildcards.
            handler: plain function, called in the order of the wire; it must be short.
            queue: subscribers of one queue group share the messages.

        Raises:
            BusDisconnectedError: not connected; nothing is subscribed.
            BusTimeoutError: the server did not confirm; nothing is subscribed.
        """
        subscription = self.subscribe_nowait(subject, handler, queue=queue)
        try:
            await self._exchange.echo()
        except BaseException:
            await subscription.close()
            raise
        return subscription

    def subscribe_nowait(
        self, subject: str, handler: Callable[[Received], None], *, queue: str = ""
    ) -> Subscription:
        """`subscribe` without the proof: the server has it before what this bus sends next.

        While disconnected it begins with the next connection.
        """
        return self._exchange.subscribe(subject, queue, handler)

    async def close(self) -> None:
        """Close for good; safe to repeat, also while disconnected; takes at most 2 s."""
        with contextlib.suppress(PenstockError):
            await self._exchange.echo(_FAREWELL_S)  # let the server have what was published last
        await self._link.close()

    async def _wait_for_room(self, client: WireClient) -> None:
        try:
            async with asyncio.timeout(_UNSENT_TIMEOUT_S):
                # The kernel does not tell when it takes more; this is rare and short.
                while client is self._exchange.client and client.unsent_bytes > _MAX_UNSENT_BYTES:  # noqa: ASYNC110
                    await asyncio.sleep(_UNSENT_LOOK_S)
        except TimeoutError:
            raise BusTimeoutError("the NATS server does not take our bytes") from None


def parse_api_answer(data: bytes) -> Mapping[str, Any]:
    """A JetStream answer without an error in it.

    Raises:
        WrongRevisionError: an expected sequence was not the last one.
        BusRefusedError: any other error in the answer; `code` is JetStream's err_code, or 0 when
            this is no JetStream answer at all.
    """
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BusRefusedError("NATS sent what is no JetStream answer")
    error = answer.get("error")
    if error is not None:
        code = int(error.get("err_code", 0))
        message = str(error.get("description", "refused"))
        if code in _WRONG_REVISION_CODES:
            raise WrongRevisionError(message)
        raise BusRefusedError(message, code=code)
    return answer
