"""One request of a client and its response: from the slot to the last byte.

Theory of operation. An exchange is driven by plain calls: from the client's connection (bytes of
the body, gone, reads too slowly), from the worker's (bytes of the response, closed, reads too
slowly), from the queue (a slot, a refusal) and from the clock. It never waits and has no task; only
opening a connection does, on its own. Its life:

    acquire ─▶ (waits for a slot) ─▶ (connects) ─▶ sent ─▶ responding ─▶ ended
       ▲                                │            │
       └────────── another try ─────────┴────────────┘

Rule 1: a slot is held from `_dispatch` to `_finish`, which is called on every way out, and gives it
        back once.
Rule 2: another worker is tried while it is safe: nothing was sent, or no byte of a response came,
        the request is idempotent, and what was sent of its body is still here.
Rule 3: once the response's head went out there is no other answer: when the worker fails then, the
        client's connection is cut, so that half a response never looks whole.
Rule 4: the side that reads too slowly stops the reading from the other side; nothing piles up here.
"""

import asyncio
import logging
from typing import Final

from penstock_router.admission import Refusal
from penstock_router.gate import Call
from penstock_router.headers import (
    build_interim,
    build_response,
    build_switch,
    connection_line,
)
from penstock_router.lanes import LeaseOutcome, SlotLease, Waiter
from penstock_router.proxy.bodies import (
    BodyReader,
    ChunkedBody,
    FixedBody,
    frame_response,
    has_body,
)
from penstock_router.proxy.context import Context
from penstock_router.proxy.downstream import Downstream, Due
from penstock_router.proxy.failures import (
    bad_gateway,
    body_timeout,
    body_too_large,
    overloaded,
    worker_timeout,
)
from penstock_router.proxy.heads import (
    HEAD_END,
    HttpError,
    RequestHead,
    ResponseHead,
    malformed,
    parse_response,
)
from penstock_router.proxy.upstream import (
    HIGH_WATER_BYTES,
    BrokenError,
    ConnectResult,
    OverloadedError,
    UnreachableError,
    WorkerConnection,
)

logger = logging.getLogger(__name__)

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: As much of a body is kept so that it can be sent again.
_REPLAYED_BYTES: Final = 65_536
#: Interim responses that are passed on for one request.
_MOST_INTERIM: Final = 16


class Exchange:
    """One request and its response."""

    # Defaults stand here, not in the constructor: most requests never change most of them.

    #: whether the connections have become one, of another protocol
    tunnel = False
    #: sides of the tunnel that have sent all they will
    tunnel_ends = 0
    _kept_bytes = 0
    _waiter: Waiter | None = None
    _lease: SlotLease | None = None
    _connecting: asyncio.Task[None] | None = None
    _worker: WorkerConnection | None = None
    #: whether its connection has carried another request before
    _reused = False
    _worker_paused = False
    _worker_keep_alive = False
    #: reads the response's body; None = its head has not come
    _reader: BodyReader | None = None
    #: of the response's head, until it is whole
    _head_begun = b""
    #: whether a byte of a response has come
    _answered = False
    #: whether a response's head went out
    _begun = False
    #: whether it did alone, and nothing of the body has come yet
    _body_awaited = False
    _n_interim = 0
    _attempt = 0
    #: of the response whose head went out; 0 = none did
    status = 0
    #: since when it waits, over all tries; None = this is the first
    _since: float | None = None
    #: workers at which it failed
    _failed: frozenset[str] = frozenset()
    #: times of the loop's
    _queue_until = 0.0
    _total_until = 0.0
    _first_byte_until = 0.0
    _uploaded_at = 0.0
    _progress_at = 0.0

    def __init__(
        self,
        client: Downstream,
        context: Context,
        call: Call,
        head: RequestHead,
        body: FixedBody | ChunkedBody,
    ) -> None:
        """An exchange that has not begun; `body` reads what the client sends."""
        self._client = client
        self._context = context
        self._call = call
        self._head = head
        self._body = body
        #: seconds of the gate's clock
        self.began_at = context.gate.now()
        #: whether the request was read whole
        self.upload_done = body.done
        #: whether the client's connection may carry another request after this one
        self.keep_alive = head.fields.keep_alive
        #: what was passed on of the body, or will be; None = too much to keep
        self._kept: list[bytes] | None = []
        #: whether the client need not be told to send its body (any more)
        self._continued = not call.expects_continue

    @property
    def app_name(self) -> str:
        """Of the endpoint that is called."""
        return self._call.endpoint.spec.app_name

    # ---- the slot

    def begin(self) -> None:
        """Ask for a slot; what is known of the body has been fed."""
        if not self.upload_done:
            self._uploaded_at = self._context.loop.time()
            self._client.watch(self._uploaded_at + self._context.settings.body_idle_timeout_s)
        self._acquire()

    def _acquire(self) -> None:
        answer = self._context.gate.try_acquire(self._call, since=self._since, avoid=self._failed)
        if isinstance(answer, SlotLease):
            self._dispatch(answer)
        elif isinstance(answer, Refusal):
            self._client.refuse(answer, self._call.request_id)
        else:
            self._waiter = answer
            ticket = answer.ticket
            wait_s = (ticket.deadline_at - ticket.enqueued_at).total_seconds()
            self._queue_until = self._context.loop.time() + wait_s
            self._client.watch(self._queue_until)
            answer.answer.add_done_callback(self._on_answer)
            self._client.update_reading()

    def _on_answer(self, answer: asyncio.Future[SlotLease | Refusal]) -> None:
        if self._waiter is None:
            return  # the client left, and whoever saw that gave the slot back
        self._context.gate.answered(self._waiter)
        self._waiter = None
        given = answer.result()
        if isinstance(given, SlotLease):
            self._dispatch(given)
        else:
            self._client.refuse(given, self._call.request_id)

    def _dispatch(self, lease: SlotLease) -> None:
        self._lease = lease
        self._attempt += 1
        self._total_until = self._context.now() + self._call.timeout_s
        self._client.watch(self._total_until)
        worker = self._context.upstream.take(lease.address)
        if worker is None:
            self._connect(lease)
        else:
            self._reused = True
            self._send(worker)

    def _connect(self, lease: SlotLease) -> None:
        self._reused = False
        self._first_byte_until = 0.0
        self._connecting = self._context.upstream.connect(lease.address, self._on_connected)

    def _on_connected(self, result: ConnectResult) -> None:
        self._connecting = None
        if isinstance(result, OverloadedError):
            self._finish("cancelled")  # the worker is not to blame
            self._client.refuse(overloaded(result), self._call.request_id)
        elif isinstance(result, UnreachableError):
            self._fail_try("connect_failed", bad_gateway(result), again=True)
        else:
            self._send(result)

    def _finish(self, outcome: LeaseOutcome) -> None:
        """Let go of worker, connection attempt and slot, whichever there are."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abort()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._context.gate.leave(waiter)
        lease, self._lease = self._lease, None
        if lease is not None:
            self._context.gate.finish(lease, outcome)

    # ---- the request

    def _send(self, worker: WorkerConnection) -> None:
        worker.sink = self
        self._worker = worker
        self._worker_paused = False
        kept = self._kept
        assert kept is not None, "a request is sent again only while its body is kept"
        if not kept:
            worker.transport.write(self._call.head)
        else:
            worker.transport.write(
                self._call.head + (kept[0] if len(kept) == 1 else b"".join(kept))
            )
            if self._kept_bytes > _REPLAYED_BYTES:
                self._kept = None
        if not self._continued:
            # Only now is it sure that somebody takes the body.
            self._continued = True
            if not (self.upload_done or self._kept_bytes):
                self._client.transport.write(CONTINUE)
        if not self.upload_done:
            self._client.update_reading()
        elif self._context.first_byte_timeout_s is not None:
            self._await_first_byte()

    def take_whole(self, data: bytes) -> None:
        """The body, which came with the head and has the length that this says."""
        self._kept = [data]
        self._kept_bytes = len(data)

    def client_data(self, data: bytes) -> bytes:
        """Bytes of the body came; gives those that follow it."""
        body = self._body
        try:
            passing, rest = body.feed(data)
            self._check_size()
        except HttpError as error:
            self._fail_body(error.refusal)
            return b""
        if passing:
            self._pass_up(passing)
        if body.done:
            self.upload_done = True
            if self._worker is not None:
                self._await_first_byte()
        else:
            self._uploaded_at = self._context.loop.time()
        return rest

    def _pass_up(self, data: bytes) -> None:
        kept = self._kept
        if kept is not None:
            self._kept_bytes += len(data)
            if self._worker is None or self._kept_bytes <= _REPLAYED_BYTES:
                kept.append(data)
            else:
                self._kept = None
        if self._worker is not None:
            self._worker.transport.write(data)
        elif self._kept_bytes > HIGH_WATER_BYTES:
            self._client.update_reading()

    def _check_size(self) -> None:
        most = self._context.settings.max_body_bytes
        if most is not None and isinstance(self._body, ChunkedBody) and self._body.total > most:
            raise body_too_large(most)

    def _fail_body(self, refusal: Refusal) -> None:
        self._finish("cancelled")
        self.keep_alive = False  # where the next request would begin is anybody's guess
        if self._begun:
            self._client.cut()
        else:
            self._client.refuse(refusal, self._call.request_id)

    def _await_first_byte(self) -> None:
        timeout_s = self._context.settings.first_byte_timeout_s
        if timeout_s is not None:
            self._first_byte_until = self._context.loop.time() + timeout_s
            self._client.watch(self._first_byte_until)

    @property
    def wants_upload(self) -> bool:
        """Whether more of the body can be taken now."""
        if self.tunnel:
            return not self._worker_paused
        if self.upload_done:
            return True  # what comes is another request's, or nothing
        if self._worker is None:
            return self._kept_bytes <= HIGH_WATER_BYTES
        return not self._worker_paused

    def upload_resumed(self) -> None:
        """The client's bytes are read again; until now it could not send."""
        self._uploaded_at = self._context.loop.time()
        if not self.upload_done:
            self._client.watch(self._uploaded_at + self._context.settings.body_idle_timeout_s)

    # ---- the response

    def worker_data(self, data: bytes) -> None:
        """See `Sink`."""
        reader = self._reader
        if reader is None:
            if self.tunnel:
                self._client.transport.write(data)
            else:
                self._read_head(data)
            return
        try:
            passing, rest = reader.feed(data)
        except HttpError as error:
            self._break_off(f"The worker's response is broken: {error}")
            return
        if passing:
            self._client.transport.write(passing)
        if reader.done:
            self._end_response(rest)
            return
        if self._body_awaited and passing:
            self._body_awaited = False
            self._note_first_byte()
        if self._context.stream_idle_timeout_s is not None:
            self._progress_at = self._context.now()

    def _note_first_byte(self) -> None:
        # Not of a body that is here already: then it came as the slot was given back.
        lease = self._lease
        assert lease is not None
        lease.first_byte_at = self._context.gate.now()

    def _read_head(self, data: bytes) -> None:
        self._answered = True
        if self._head_begun:
            data, self._head_begun = self._head_begun + data, b""
        worker = self._worker
        assert worker is not None
        try:
            while data:
                end = data.find(HEAD_END)
                if end < 0:
                    if len(data) > self._context.limits.head_bytes:
                        raise malformed("Its head is too long.")
                    self._head_begun = data
                    return
                head = parse_response(data[:end], self._context.limits, worker.last_head)
                worker.last_head = head
                data = data[end + 4 :]  # 4 = len(HEAD_END)
                if head.status >= 200:
                    self._respond(head, data)
                    return
                if head.status == 101:
                    self._switch(head, data)
                    return
                self._pass_interim(head)
        except HttpError as error:
            self._break_off(f"The worker's response is no HTTP: {error}")

    def _pass_interim(self, head: ResponseHead) -> None:
        self._n_interim += 1
        if self._n_interim > _MOST_INTERIM:
            raise malformed("There are too many interim responses.")
        # `100 Continue` has been said, or was not asked for.
        if head.status != 100 and self._head.fields.http_11:
            self._client.transport.write(build_interim(head))

    def _respond(self, head: ResponseHead, data: bytes) -> None:
        context = self._context
        http_11 = self._head.fields.http_11
        method = self._head.method
        reader: BodyReader | None = None
        if len(data) == head.length and method != "HEAD" and has_body(head.status):
            framing, passing, rest = head.length_line, data, b""  # as most short bodies come
        else:
            reader, framing = frame_response(head, method, http_11=http_11)
            passing, rest = (b"", data) if reader.done else reader.feed(data)
            if not (http_11 or framing) and not reader.done:
                self.keep_alive = False  # the connection's end is the body's
        if not self.upload_done or context.draining:
            self.keep_alive = False
        lease = self._lease
        assert lease is not None, "a worker answers only who holds its slot"
        out = build_response(
            head,
            lease,
            self._call.request_id,
            framing=framing,
            connection=(
                ""
                if http_11 and self.keep_alive
                else connection_line(http_11=http_11, keep_alive=self.keep_alive)
            ),
            date=context.date(),
        )
        self._reader = reader
        self._worker_keep_alive = head.keep_alive
        self._begun = True
        self.status = head.status
        self._client.transport.write(out + passing if passing else out)
        if reader is None or reader.done:
            self._end_response(rest)
            return
        if passing:
            self._note_first_byte()
        else:
            self._body_awaited = True
        timeout_s = context.stream_idle_timeout_s
        if timeout_s is not None:
            self._progress_at = context.now()
            self._client.watch(self._progress_at + timeout_s)

    def _end_response(self, rest: bytes) -> None:
        worker, self._worker = self._worker, None
        assert worker is not None
        if (
            self._worker_keep_alive
            and self.upload_done
            and not rest
            and not worker.transport.get_write_buffer_size()
        ):
            worker.release()
        else:
            worker.abort()
        # The slot need not wait until a slow client has read the rest.
        lease, self._lease = self._lease, None
        assert lease is not None
        self._context.gate.finish(lease, "ok")
        self._client.end_exchange()

    def worker_eof(self) -> None:
        """See `Sink`."""
        if self.tunnel:
            self._end_tunnel_side(self._client.transport)
            return
        left = None if self._reader is None else self._reader.feed_eof()
        if left is None:
            self._break_off("The worker broke off before its response was whole.")
            return
        if left:
            self._client.transport.write(left)
        self._worker_keep_alive = False
        self._end_response(b"")

    def worker_lost(self, error: Exception | None) -> None:
        """See `Sink`."""
        self._worker = None
        if self.tunnel:
            self._finish("ok")
            self._client.cut()
            return
        detail = f": {error}" if error is not None else "."
        self._break_off(f"The worker broke the connection{detail}")

    def worker_paused(self, *, paused: bool) -> None:
        """See `Sink`."""
        self._worker_paused = paused
        self._client.update_reading()

    def client_paused(self, *, paused: bool) -> None:
        """The client does not read fast enough, or does again."""
        worker = self._worker
        if worker is None or worker.transport.is_closing():
            return
        if paused:
            worker.transport.pause_reading()
        else:
            worker.transport.resume_reading()
            self._progress_at = self._context.loop.time()

    # ---- failures

    def _break_off(self, detail: str) -> None:
        """The worker failed after something was sent to it."""
        lease = self._lease
        assert lease is not None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abort()
        again = (
            not self._answered
            and not self._begun
            and self._call.idempotent
            and self._kept is not None
        )
        if again and self._reused:
            # It may have closed an idle connection just when this request was on its way.
            self._connect(lease)
            return
        self._fail_try("error", bad_gateway(BrokenError(detail)), again=again)

    def _fail_try(self, outcome: LeaseOutcome, problem: Refusal, *, again: bool) -> None:
        lease = self._lease
        assert lease is not None
        self._finish(outcome)
        if again and self._attempt < self._context.settings.max_attempts:
            self._since = lease.dispatched_at - lease.waited_s
            self._failed |= {lease.worker_id}
            self._acquire()
            return
        self._give_up(problem, lease)

    def _give_up(self, problem: Refusal, lease: SlotLease) -> None:
        logger.warning(
            "request failed at its worker",
            extra={
                "action": "request_failed",
                "request_id": self._call.request_id,
                "endpoint_id": lease.endpoint_id,
                "worker_id": lease.worker_id,
                "reason": problem.reason,
                "detail": problem.detail,
                "begun": self._begun,
            },
        )
        if self._begun:
            self._client.cut()
        else:
            self._client.refuse(problem, self._call.request_id)

    def client_left(self) -> None:
        """The client is gone: leave the worker at once, and give the slot back."""
        self._finish("cancelled")

    # ---- time

    def due(self) -> Due:
        """What is due next."""
        settings = self._context.settings
        dues: list[Due] = []
        if self._waiter is not None:
            dues.append((self._queue_until, "queue"))
        if self._lease is not None:
            dues.append((self._total_until, "total"))
            if not self._answered and self._first_byte_until:
                dues.append((self._first_byte_until, "first_byte"))
            stream_s = settings.stream_idle_timeout_s
            if self._reader is not None and stream_s is not None:
                dues.append((self._progress_at + stream_s, "stream"))
        if not self.upload_done and self.wants_upload and self._continued:
            dues.append((self._uploaded_at + settings.body_idle_timeout_s, "body"))
        return min(dues, default=(float("inf"), ""))

    def expire(self, what: str) -> None:
        """This is due."""
        if what == "queue":
            assert self._waiter is not None
            self._context.gate.time_out(self._waiter, self._call)
            return
        if what == "body":
            self._fail_body(body_timeout(self._context.settings))
            return
        lease = self._lease
        assert lease is not None
        self._finish("error")
        problem = worker_timeout(what, self._context.settings, self._call.timeout_s)
        self._give_up(problem, lease)

    # ---- other protocols

    def _switch(self, head: ResponseHead, data: bytes) -> None:
        protocol = head.special.get("upgrade")
        wanted = self._call.upgrade
        if wanted is None or protocol is None or protocol.lower() != wanted.lower():
            raise malformed("It changes to a protocol that was not asked for.")
        self.tunnel = True
        self._begun = True
        self.status = head.status
        self.keep_alive = False
        lease = self._lease
        assert lease is not None, "a worker answers only who holds its slot"
        self._note_first_byte()
        out = build_switch(head, lease, self._call.request_id)
        self._client.transport.write(out + data)
        held = self._client.take_held()
        if held:
            self.tunnel_data(held)

    def tunnel_data(self, data: bytes) -> None:
        """Bytes of the client's, for the worker."""
        if self._worker is not None:
            self._worker.transport.write(data)

    def tunnel_eof(self) -> None:
        """The client sends no more."""
        if self._worker is not None:
            self._end_tunnel_side(self._worker.transport)

    def _end_tunnel_side(self, other: asyncio.Transport) -> None:
        self.tunnel_ends += 1
        if self.tunnel_ends == 2:
            self._finish("ok")
            self._client.end_exchange()
        elif not other.is_closing():
            other.write_eof()
