"""A client's connection: requests one after the other, answered in order.

One request is handled at a time; what a client sends behind it is held back, up to a bound, and
read when the response is out. All times of a connection share one timer, which is moved only when
something is due earlier than it is set for: a request that ends in time never touches it.
"""

import asyncio
import logging
import select
from http import HTTPStatus
from typing import Final, cast

from typing_extensions import override

from penstock_router.admission import Refusal
from penstock_router.gate import Answer
from penstock_router.headers import Client, build_answer, connection_line
from penstock_router.proxy.bodies import ChunkedBody, FixedBody
from penstock_router.proxy.context import Context
from penstock_router.proxy.downstream import Due
from penstock_router.proxy.exchange import Exchange
from penstock_router.proxy.failures import body_too_large, too_many_connections
from penstock_router.proxy.heads import (
    HEAD_END,
    HttpError,
    RequestHead,
    check_beginning,
    check_size,
    parse_request,
)
from penstock_router.proxy.upstream import HIGH_WATER_BYTES, readable

logger = logging.getLogger(__name__)

#: How long the rest of a refused body is read, so that the client gets to read the refusal.
_LINGER_S: Final = 2.0
#: While a client's bytes are not read, it is looked whether it is still there.
_LOOK_S: Final = 1.0
_NEVER: Final = float("inf")
#: So many of those who are turned away are told why; the others' connections are cut.
_TURNED_AWAY: Final = 32
#: Reads a body of no bytes, or one that is here already; has no state.
_NO_BODY: Final = FixedBody(0)


class ClientConnection(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_armed_at",
        "_begun",
        "_client",
        "_closing",
        "_context",
        "_exchange",
        "_half_closed",
        "_head",
        "_held",
        "_http_11",
        "_idle_until",
        "_look_at",
        "_method",
        "_reading",
        "_receiving",
        "_timer",
        "_write_paused",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client = Client("unknown", "http")
        self._exchange: Exchange | None = None
        #: the last request's, since the next one is often the same
        self._head: RequestHead | None = None
        #: of a head that is not whole yet
        self._begun = bytearray()
        #: what came behind the request that is being handled
        self._held = b""
        #: of the request that is being handled
        self._method = ""
        self._http_11 = True
        #: what comes is thrown away, until the client closes
        self._closing = False
        #: the client sends no more, but may read
        self._half_closed = False
        self._receiving = False
        self._reading = True
        self._write_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = _NEVER
        #: end of the wait for a request, for the rest of a head, or for the client to close
        self._idle_until = _NEVER
        self._look_at = _NEVER

    # ---- the connection

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are transports by their methods, not by their class.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=0)
        peer = transport.get_extra_info("peername")
        self._client = self._context.gate.client(peer[0] if peer else "unknown", "http")
        self._context.connections.add(self)
        if len(self._context.connections) > self._context.max_connections:
            self._turn_away()
            return
        # A client that connects is about to ask; one that has asked may take its time.
        self._await_request(self._context.settings.header_timeout_s)

    def _turn_away(self) -> None:
        """This connection is one too many."""
        context = self._context
        context.note_turned_away()
        if len(context.connections) > context.max_connections + _TURNED_AWAY:
            self._closing = True
            self.transport.abort()  # even a word would take a file for too long
        else:
            self._reject(too_many_connections(context.max_connections))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._context.connections.discard(self)
        self._closing = True
        self._leave()
        if self._timer is not None:
            self._timer.cancel()

    @override
    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is None:
            # Half a head, or none: nothing is owed. A response on its way is flushed first.
            return False
        if exchange.tunnel:
            exchange.tunnel_eof()
            return True
        if exchange.upload_done and self._context.settings.serve_half_closed:
            self._half_closed = True
            return True
        self._leave()
        self.transport.abort()
        return True

    def _leave(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._count(exchange, 0)
            exchange.client_left()
            self._context.end()

    @override
    def pause_writing(self) -> None:
        self._write_paused = True
        if self._exchange is not None:
            self._exchange.client_paused(paused=True)

    @override
    def resume_writing(self) -> None:
        self._write_paused = False
        if self._exchange is not None:
            self._exchange.client_paused(paused=False)
        else:
            self._take_next()

    def cut(self) -> None:
        """Close at once; a response on its way stays unfinished."""
        self._closing = True
        if self._exchange is not None:
            self._leave()
        self.transport.abort()

    def close_if_idle(self) -> None:
        """Close unless there is a request, or a part of one."""
        if self._exchange is None and not self._begun and not self._held:
            self._closing = True
            self.transport.close()

    # ---- requests

    @override
    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._closing:
                return
            if self._held:
                data = self.take_held() + data
            self._receive(data)
        elif not exchange.upload_done:
            rest = exchange.client_data(data)
            if rest:
                self._hold(rest)
        elif exchange.tunnel:
            exchange.tunnel_data(data)
        else:
            self._hold(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HIGH_WATER_BYTES:
            self.update_reading()

    def take_held(self) -> bytes:
        """What the client sent behind its request; once."""
        held, self._held = self._held, b""
        if held:
            self.update_reading()
        return held

    def _receive(self, data: bytes) -> None:
        """Handle requests until one is in progress or no whole head is left."""
        self._receiving = True
        try:
            while data and not self._closing:
                if self._exchange is not None or self._write_paused:
                    self._hold(data)
                    break
                data = self._receive_one(data)
        except HttpError as error:
            self._reject(error.refusal)
        finally:
            self._receiving = False

    def _receive_one(self, data: bytes) -> bytes:
        """Begin the request at the front, if its head is whole; gives what follows it."""
        begun = self._begun
        if begun == b"\r":  # perhaps of an empty line before the request
            data = b"\r" + data
            begun.clear()
        if begun:
            search_from = max(0, len(begun) - 3)
            line_begun = begun.endswith(b"\r")
            begun += data
            end = begun.find(HEAD_END, search_from)
            if end < 0:
                check_beginning(b"\r" + data if line_begun else data)
                check_size(begun, self._context.limits)
                return b""
            data = bytes(begun)
            begun.clear()
        else:
            while data.startswith(b"\r\n"):  # some clients send one after a body
                data = data[2:]
            end = data.find(HEAD_END)
            if end < 0:
                check_beginning(data)
                begun += data
                check_size(begun, self._context.limits)
                if begun:
                    self._await_request(self._context.settings.header_timeout_s)
                return b""
        head = parse_request(data[:end], self._context.limits, self._head)
        self._head = head
        return self._begin(head, data[end + 4 :])  # 4 = len(HEAD_END)

    def _begin(self, head: RequestHead, data: bytes) -> bytes:
        context = self._context
        self._method = head.method
        self._http_11 = head.fields.http_11
        length = head.fields.length
        most = context.max_body_bytes
        if length is not None and most is not None and length > most:
            raise body_too_large(most)
        opened = context.gate.open(head, self._client)
        whole = len(data) == length  # as most requests come
        body = _NO_BODY if whole else ChunkedBody() if length is None else FixedBody(length)
        if isinstance(opened, Answer):
            return self._answer_unasked(opened, head, body, b"" if whole else data)
        exchange = self._exchange = Exchange(self, context, opened, head, body)
        context.in_flight += 1
        if whole:
            if data:
                exchange.take_whole(data)
                data = b""
        elif data and not body.done:
            data = exchange.client_data(data)
        if self._exchange is exchange:  # its body was not refused already
            exchange.begin()
        return data

    def _answer_unasked(
        self, answer: Answer, head: RequestHead, body: ChunkedBody | FixedBody, data: bytes
    ) -> bytes:
        """Answer a request that goes nowhere; a body that is here already is passed over."""
        if not body.done:
            _, data = body.feed(data)
        # Behind an `Expect` nobody knows whether the body will follow: what comes next could not be
        # framed.
        sure = body.done and "expect" not in head.fields.special
        self._context.gate.metrics.request(head.method, "", answer.status, 0.0)
        self._answer(answer, keep_alive=head.fields.keep_alive and sure, linger=not sure)
        return data

    # ---- responses

    def refuse(self, refusal: Refusal, request_id: str) -> None:
        """See `Downstream`."""
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        self._context.end()
        self._count(exchange, refusal.status)
        done = exchange.upload_done
        answer = self._context.gate.refuse(refusal, request_id)
        self._answer(answer, keep_alive=exchange.keep_alive and done, linger=not done)
        self._take_next()

    def _reject(self, refusal: Refusal) -> None:
        """Answer what is no request, and close: what comes next could not be framed."""
        gate = self._context.gate
        self._begun.clear()
        gate.metrics.request("", "", refusal.status, 0.0)
        answer = gate.refuse(refusal, gate.fresh_request_id())
        self._answer(answer, keep_alive=False, linger=True)

    def _answer(self, answer: Answer, *, keep_alive: bool, linger: bool) -> None:
        keep_alive = keep_alive and not self._context.draining and not self._half_closed
        head = build_answer(
            answer.status,
            HTTPStatus(answer.status).phrase,
            answer.fields,
            length=len(answer.body),
            connection=connection_line(http_11=self._http_11, keep_alive=keep_alive),
            date=self._context.date(),
        )
        if self.transport.is_closing():
            return
        self.transport.write(head if self._method == "HEAD" else head + answer.body)
        if not keep_alive:
            self._close(linger=linger)
        else:
            self._await_request(self._context.settings.client_keepalive_s)

    def end_exchange(self) -> None:
        """See `Downstream`."""
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        context = self._context
        context.end()
        self._count(exchange, exchange.status)
        if not exchange.keep_alive or self._half_closed or context.draining:
            self._close(linger=not exchange.upload_done)
            return
        self._await_request(context.client_keepalive_s)
        if self._held:
            self._take_next()

    def _count(self, exchange: Exchange, status: int) -> None:
        gate = self._context.gate
        duration_s = gate.now() - exchange.began_at
        gate.metrics.request(self._method, exchange.app_name, status, duration_s)

    def _take_next(self) -> None:
        """The connection is free for the request that came behind, if one did."""
        if self._held and not (self._closing or self._receiving or self._write_paused):
            self._receive(self.take_held())

    def _close(self, *, linger: bool) -> None:
        """Close once everything is written.

        With `linger` the client may still be sending: its bytes are thrown away for a while, since
        closing under them would reset the connection before the client has read the response.
        """
        self._closing = True
        self._held = b""
        self.update_reading()
        if self.transport.is_closing():
            return
        if not linger or self._half_closed:
            self.transport.close()
            return
        self.transport.write_eof()
        self._await_request(_LINGER_S)

    # ---- pace and time

    def update_reading(self) -> None:
        """See `Downstream`."""
        exchange = self._exchange
        wanted = len(self._held) <= HIGH_WATER_BYTES and (exchange is None or exchange.wants_upload)
        if wanted == self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._look_at = _NEVER
            self.transport.resume_reading()
            if exchange is not None:
                exchange.upload_resumed()
        else:
            self.transport.pause_reading()
            self._look_at = self._context.loop.time() + _LOOK_S
            self.watch(self._look_at)

    def _await_request(self, timeout_s: float) -> None:
        at = self._idle_until = self._context.now() + timeout_s
        if at < self._armed_at:
            self.watch(at)

    def watch(self, at: float) -> None:
        """See `Downstream`."""
        if at < self._armed_at:
            if self._timer is not None:
                self._timer.cancel()
            self._armed_at = at
            self._timer = self._context.loop.call_at(at, self._on_time)

    def _due(self) -> Due:
        if self._exchange is None:
            return self._idle_until, "idle"
        return min(self._exchange.due(), (self._look_at, "look"))

    def _on_time(self) -> None:
        self._timer = None
        self._armed_at = _NEVER
        at, what = self._due()
        if at <= self._context.loop.time():
            self._expire(what)
            at = self._due()[0]
        if not self.transport.is_closing() and at < _NEVER:
            self.watch(at)

    def _expire(self, what: str) -> None:
        if what == "look":
            self._look()
        elif self._exchange is not None:
            self._exchange.expire(what)
        elif self._begun and not self._closing:
            limit_s = self._context.settings.header_timeout_s
            detail = f"The request's head took longer than {limit_s:g} s (header_timeout_s)."
            self._reject(Refusal(408, "header_timeout", detail))
        else:
            self._idle_until = _NEVER
            self.transport.abort() if self._closing else self.transport.close()

    def _look(self) -> None:
        """A client whose bytes are not read is still seen to leave."""
        half_closed = 0 if self._context.settings.serve_half_closed else select.POLLRDHUP
        if readable(self.transport, half_closed):
            self.cut()
        else:
            self._look_at = self._context.loop.time() + _LOOK_S
