"""Asking a worker whether it is ready, and whether it still lives.

One probe is one connection: a GET of `health.path` (passed by 200 alone) or, without a path, the
connection itself. The client is written by hand since a cold start waits for its answer: a probe
costs a tenth of a millisecond, so a starting worker can be asked every few milliseconds.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from penstock_node_agent.runtimes.protocol import Started
from penstock_node_agent.workers.health_answers import Answer, Reply

#: A probe that comes this share of the elapsed time after the last delays a start by at most 1 %.
_INTERVAL_RATIO: Final = 0.01
_MIN_INTERVAL_S: Final = 0.002
_MAX_INTERVAL_S: Final = 0.25
#: Longest reading of an answer whose verdict is known, so that the worker can finish writing it;
#: shorter for a bad one, since the next probe waits for it.
_DRAIN_S: Final = 0.2
_DRAIN_BAD_S: Final = 0.02
_DRAIN_BYTES: Final = 256 * 1024
_STATUS_LINE_BYTES: Final = len(b"HTTP/1.1 200")
#: Behind a proxy, a connection that stays open so long has reached somebody.
_PROXY_SETTLE_S: Final = 0.03
_BY_ERRNO: Final = {
    errno.ECONNREFUSED: Reply.REFUSED,
    errno.ECONNRESET: Reply.CLOSED,
    errno.EPIPE: Reply.CLOSED,
}
#: First byte of a message of the TLS handshake.
_TLS_HANDSHAKE: Final = b"\x16"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What to ask."""

    address: Started
    #: None = the connection is the answer
    path: str | None
    #: connections are accepted by a proxy before the worker listens
    proxied: bool = False


def readiness_interval(elapsed_s: float) -> float:
    """Pause before the next probe of a worker that started `elapsed_s` seconds ago."""
    return min(max(elapsed_s * _INTERVAL_RATIO, _MIN_INTERVAL_S), _MAX_INTERVAL_S)


@asynccontextmanager
async def asked(target: ProbeTarget, timeout_s: float) -> AsyncIterator[Answer]:
    """One probe: the body gets the answer as soon as it is known.

    After the body the rest of the worker's answer is read, for at most 0.2 s, so that a simple
    server does not see its connection break and fill its log. Never raises for a sick worker.

    Args:
        target: what to ask.
        timeout_s: longest wait for the answer.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target.address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await _ask(loop, sock, target)
        except TimeoutError:
            answer = Answer(Reply.TIMED_OUT, waited_s=timeout_s)
        except OSError as error:
            answer = Answer(
                _BY_ERRNO.get(error.errno or 0, Reply.NO_WAY),
                error=error.strerror or type(error).__name__,
            )
        yield answer
        if answer.listening and target.path is not None:
            await _drain(loop, sock, _DRAIN_S if answer.healthy else _DRAIN_BAD_S)


async def _ask(loop: asyncio.AbstractEventLoop, sock: socket.socket, target: ProbeTarget) -> Answer:
    address = target.address
    await loop.sock_connect(sock, (address.host, address.port))
    if target.path is None:
        if target.proxied and not await _stays_open(loop, sock):
            return Answer(Reply.CLOSED)
        return Answer(Reply.ANSWERED, listening=True)
    host = f"[{address.host}]" if ":" in address.host else address.host
    request = (
        f"GET {target.path} HTTP/1.1\r\nHost: {host}:{address.port}\r\n"
        "User-Agent: penstock-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    await loop.sock_sendall(sock, request.encode())
    line = b""
    while len(line) < _STATUS_LINE_BYTES:
        chunk = await loop.sock_recv(sock, 4096)
        if not chunk:
            return Answer(Reply.CLOSED, listening=bool(line))
        line += chunk
    status = line[9:12]
    if not line.startswith(b"HTTP/1.") or not status.isdigit():
        return Answer(Reply.NOT_HTTP, listening=True)
    return Answer(Reply.ANSWERED, int(status), listening=True)


async def speaks_tls(address: Started, timeout_s: float) -> bool:
    """Whether a server answers the first message of TLS with its own.

    Nothing is trusted and nothing is sent inside of it, so no certificate is looked at.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s):
                await loop.sock_connect(sock, (address.host, address.port))
                await loop.sock_sendall(sock, _client_hello())
                return await loop.sock_recv(sock, 1) == _TLS_HANDSHAKE
        except (TimeoutError, OSError):
            return False


def _client_hello() -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):  # the answer is read by who asks
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


async def _stays_open(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bool:
    """Whether somebody is behind the proxy: it closes a connection that it cannot pass on."""
    try:
        async with asyncio.timeout(_PROXY_SETTLE_S):
            return bool(await loop.sock_recv(sock, 1))
    except TimeoutError:
        return True


async def _drain(loop: asyncio.AbstractEventLoop, sock: socket.socket, wait_s: float) -> None:
    left = _DRAIN_BYTES
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(wait_s):
            while left > 0 and (chunk := await loop.sock_recv(sock, 65_536)):
                left -= len(chunk)
