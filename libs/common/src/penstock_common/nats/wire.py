"""One connection of the NATS client, from its handshake to its loss; the only user of nats-py.

Theory of operation. nats-py dials, authenticates and parses; everything after that which it does
by itself is a trap for a service that must neither go deaf nor act late (it closes for good on
several errors, sends what it buffered while disconnected, dies on a pong that comes after its
waiter was cancelled). So a `WireClient` lives for exactly one connection and never reconnects:

1. whatever ends the connection is told once, by `on_lost`; the owner then calls `abort`, which
   drops what was not sent, and dials a new `WireClient`;
2. messages go to `on_message` in the order of the wire, without a queue or a task in between;
3. commands written in one turn of the event loop leave in one write.

It overrides and uses underscored parts of nats-py, whose version is pinned; the integration tests
of the connection fail when they change.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from nats.aio.client import Client
from typing_extensions import override

from penstock_common.nats.tls import Tls, check_agreed, is_tls

logger = logging.getLogger(__name__)

#: Longest wait for one TCP connection, and for each step of its handshake.
CONNECT_TIMEOUT_S: Final = 2
#: nats-py dials twice before it gives up (its own count of retries starts at one).
_OPEN_TIMEOUT_S: Final = 2 * CONNECT_TIMEOUT_S + 1

#: Keys of `Received.headers` under which the status line of a server's message stands.
STATUS: Final = "Status"
DESCRIPTION: Final = "Description"
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

_HEADER_LINE: Final = b"NATS/1.0\r\n"
_BAD_IN_SUBJECT: Final = re.compile(r"[\s\x00]")
_NEWLINES: Final = str.maketrans("\r\n", "  ")


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came."""

    subject: str
    data: bytes
    #: single-valued; a server's status line stands under `Status` and `Description`
    headers: Mapping[str, str]
    #: where an answer goes; empty = none is wanted
    reply: str


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Headers as they travel. Line breaks in values become spaces, so that no value adds a line."""
    lines = "".join(f"{k}: {v.translate(_NEWLINES).strip()}\r\n" for k, v in headers.items())
    return b"%b%b\r\n" % (_HEADER_LINE, lines.encode())


def encode_publish(subject: str, reply: str, headers: bytes, data: bytes) -> bytes:
    """The command that publishes a message; `headers` as `encode_headers` gave them, or empty.

    Raises:
        ValueError: a subject is empty or holds white space (it could smuggle in a command).
    """
    if not subject or _BAD_IN_SUBJECT.search(subject) or _BAD_IN_SUBJECT.search(reply):
        raise ValueError(f"no NATS subject: {subject!r} (reply {reply!r})")
    target = f"{subject} {reply}" if reply else subject
    if headers:
        total = len(headers) + len(data)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (target.encode(), len(headers), total, headers, data)
    return b"PUB %b %d\r\n%b\r\n" % (target.encode(), len(data), data)


def encode_subscribe(subject: str, queue: str, sid: int) -> bytes:
    """The command that begins a subscription.

    Raises:
        ValueError: the subject is empty, or it or the queue group holds white space.
    """
    if not subject or _BAD_IN_SUBJECT.search(subject) or _BAD_IN_SUBJECT.search(queue):
        raise ValueError(f"no NATS subject: {subject!r} (queue {queue!r})")
    return f"SUB {subject} {queue + ' ' if queue else ''}{sid}\r\n".encode()


def encode_unsubscribe(sid: int) -> bytes:
    """The command that ends a subscription."""
    return b"UNSUB %d\r\n" % sid


class WireClient(Client):
    """One connection. `on_message` and `on_lost` must not raise."""

    def __init__(
        self, *, on_message: Callable[[int, Received], None], on_lost: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._deliver = on_message
        self._tell_lost: Callable[[str], None] | None = on_lost
        self._out: list[bytes] = []
        self._out_bytes = 0
        #: what went wrong last, for a person
        self.error_text = ""
        self._url = ""
        self._tls: Tls | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self, url: str, *, name: str, user: str, password: str, tls: Tls | None) -> None:
        """Dial `url` and shake hands.

        Raises:
            OSError, nats.errors.Error, TimeoutError: the server is not there or refuses us.
        """
        self._url, self._tls = url, tls
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self.connect(
                    servers=[url],
                    name=name,
                    user=user or None,
                    password=password or None,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_TIMEOUT_S,
                    tls=tls.context if tls else None,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    pending_size=0,  # nothing is ever kept for a later connection
                    error_cb=self._note_error,
                )
        except BaseException:
            await self.abort()
            raise
        assert self._reading_task is not None
        # nats-py's read loop ends silently on an exception that it does not expect.
        self._reading_task.add_done_callback(lambda _: self._lose("the read loop ended"))

    def send(self, command: bytes) -> None:
        """Write a command; all that is sent in one turn of the event loop leaves together."""
        if not self._out:
            self._loop.call_soon(self._write_out)
        self._out.append(command)
        self._out_bytes += len(command)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        writer = self._writer
        return self._out_bytes + (writer.transport.get_write_buffer_size() if writer else 0)

    async def abort(self) -> None:
        """End the connection now and drop what was not sent; bounded, safe to repeat."""
        self._tell_lost = None
        self._out.clear()
        self._out_bytes = 0
        self._status = Client.CLOSED
        tasks = {
            task
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task)
            if task is not None and not task.done()
        }
        for task in tasks:
            task.cancel()
        writer = self._writer
        if writer is not None:
            # close() would go on sending what is buffered, once a frozen server thaws.
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)

    @property
    def _writer(self) -> asyncio.StreamWriter | None:
        return getattr(self._transport, "_io_writer", None)

    async def _note_error(self, error: Exception) -> None:
        self.error_text = str(error) or type(error).__name__
        logger.debug(
            "NATS client error", extra={"action": "nats_client_error", "error": self.error_text}
        )

    def _write_out(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        if not out or self._tell_lost is None or self._transport is None:
            return
        try:
            self._transport.writelines(out)
        except (OSError, RuntimeError) as error:  # uvloop: RuntimeError on a closed transport
            self._lose(f"write failed: {error}")

    def _lose(self, reason: str) -> None:
        tell, self._tell_lost = self._tell_lost, None
        if tell is not None:
            tell(reason)

    @override
    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection)
        if initial_connection:
            check_agreed(self._url, info, self._tls)
            # nats-py would send a password in the clear to a server that merely offers TLS.
            info["tls_required"] = is_tls(self._url)

    @override
    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        parsed: Mapping[str, str] | None = None
        if headers:
            try:
                parsed = await self._process_headers(headers)
            except (ValueError, IndexError):  # not even the status line can be read
                logger.warning("message headers unreadable", extra={"action": "headers_unreadable"})
        message = Received(
            subject.decode(errors="replace"),
            data,
            parsed or NO_HEADERS,
            reply.decode(errors="replace"),
        )
        self._deliver(sid, message)

    @override
    async def _process_op_err(self, e: Exception) -> None:
        self._lose(str(e) or type(e).__name__)

    @override
    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            # The server goes on; whoever asked runs into its own timeout.
            logger.error(
                "NATS permission missing", extra={"action": "nats_denied", "error": err_msg}
            )
            return
        self._lose(err_msg)


def status_of(message: Received) -> int:
    """The status code of a server's message (100, 404, 503 …); 0 for an ordinary one."""
    if not message.headers:
        return 0
    text: Any = message.headers.get(STATUS, "")
    return int(text) if text.isdigit() else 0


def is_marker(headers: Mapping[str, str]) -> bool:
    """Whether a KV message says that its key was deleted, purged or expired."""
    return headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers


def parse_headers(block: bytes) -> dict[str, str]:
    """The headers in a block as it travels or as JetStream stores it; {} for none."""
    headers = {}
    for line in block.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


@dataclass(frozen=True, slots=True)
class AckSubject:
    """What the reply subject of a JetStream delivery tells."""

    #: how often this message was delivered, from 1
    attempt: int
    stream_sequence: int
    consumer_sequence: int
    #: when the stream stored it: nanoseconds since 1970 by the server's clock
    stored_at_ns: int
    #: messages left in the consumer after this one
    pending: int


def parse_ack_subject(reply: str) -> AckSubject:
    """The numbers in `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<numbers…>`.

    Raises:
        ValueError: it is no such subject.
    """
    tokens = reply.split(".")
    if not reply.startswith("$JS.ACK.") or len(tokens) < 9:
        raise ValueError(f"no JetStream reply subject: {reply!r}")
    at = 4 if len(tokens) == 9 else 6
    return AckSubject(
        attempt=int(tokens[at]),
        stream_sequence=int(tokens[at + 1]),
        consumer_sequence=int(tokens[at + 2]),
        stored_at_ns=int(tokens[at + 3]),
        pending=int(tokens[at + 4]),
    )
