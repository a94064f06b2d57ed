"""Where load goes: the words that peers and load share."""

from dataclasses import dataclass
from typing import Final

#: Key of the Penstock endpoints; the other peers pass it on unread.
KEY: Final = "sk-benchmark-0123456789abcdef0123456789abcdef"
#: With `Host` and `Content-Length`, the nine header fields of a completion.
HEADERS: Final = (
    ("User-Agent", "penstock-benchmark/1"),
    ("Accept", "application/json, text/event-stream"),
    ("Accept-Encoding", "identity"),
    ("Authorization", f"Bearer {KEY}"),
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-cache"),
    ("X-Client-Id", "0f9d7c2e-8a41-4b7e-9d35-2f6f2f0a9a11"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the worker is asked for."""

    path: str
    #: JSON; empty = a GET
    body: bytes = b""


#: The request that workers of this kind live by; some peers forward nothing else.
COMPLETION: Final = Ask(
    "/v1/chat/completions",
    b'{"model":"bench","messages":[{"role":"user","content":"Say hello."}],"max_tokens":1}',
)


@dataclass(frozen=True, slots=True)
class Target:
    """An address that forwards to the worker."""

    #: of 127.0.0.1
    port: int
    #: stands before the worker's own paths: "" or "/<app>"
    base: str = ""

    def url(self, path: str) -> str:
        """The URL of a path of the worker."""
        return f"http://127.0.0.1:{self.port}{self.base}{path}"

    def request(self, ask: Ask) -> bytes:
        """The bytes of a request."""
        method = "POST" if ask.body else "GET"
        lines = [f"{method} {self.base}{ask.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in HEADERS]
        if ask.body:
            lines.append(f"Content-Length: {len(ask.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + ask.body


@dataclass(frozen=True, slots=True)
class Workers:
    """The two workers behind every peer."""

    #: takes what comes
    port: int
    #: reached with at most `queue_slots` requests at once
    queue_port: int
    queue_slots: int = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that runs and forwards."""

    name: str
    version: str
    target: Target
    #: roots of its process trees; empty = nothing stands between client and worker
    pids: tuple[int, ...]
    #: forwards to the worker with few slots and lets the rest wait; None = it has no queue
    queue: Target | None = None
    #: requests under way at once; None = no limit
    slots: int | None = None
    #: whether it forwards any path; else only completions
    generic: bool = True
