"""Asking a worker whether it is ready, and whether it still lives.

One probe is one connection: a GET of `health.path` (passed by 200 alone) or, without a path, the
connection itself. The client is written by hand since a cold start waits for its answer: a probe
costs a tenth of a millisecond, so a starting worker can be asked every few milliseconds.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from penstock_node_agent.runtimes.protocol import Started

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


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What to ask."""

    address: Started
    #: None = the connection is the answer
    path: str | None
    #: connections are accepted by a proxy before the worker listens
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one probe."""

    #: something of the worker answered
    listening: bool = False
    #: it said that it is well
    healthy: bool = False
    #: for a person, when it is not healthy
    problem: str = ""
    #: no answer in the time there was
    timed_out: bool = False


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
            answer = Answer(problem=f"no answer within {timeout_s:.3g} s", timed_out=True)
        except OSError as error:
            answer = Answer(problem=f"no connection: {error.strerror or error}")
        yield answer
        if answer.listening and target.path is not None:
            await _drain(loop, sock, _DRAIN_S if answer.healthy else _DRAIN_BAD_S)


async def _ask(loop: asyncio.AbstractEventLoop, sock: socket.socket, target: ProbeTarget) -> Answer:
    address = target.address
    await loop.sock_connect(sock, (address.host, address.port))
    if target.path is None:
        if target.proxied and not await _stays_open(loop, sock):
            return Answer(problem="the port accepts no connection")
        return Answer(listening=True, healthy=True)
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
            return Answer(listening=bool(line), problem="the connection was closed unanswered")
        line += chunk
    if not line.startswith(b"HTTP/1."):
        return Answer(listening=True, problem="the answer is not HTTP")
    status = line[9:12].decode(errors="replace")
    return Answer(
        listening=True,
        healthy=status == "200",
        problem="" if status == "200" else f"{target.path} answered {status}",
    )


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
