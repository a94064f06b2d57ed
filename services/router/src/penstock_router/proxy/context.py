"""What every connection of one server shares."""

import asyncio
from email.utils import formatdate
from typing import Protocol

from penstock_router.gate import Gate
from penstock_router.proxy.heads import Limits
from penstock_router.proxy.upstream import Upstream
from penstock_router.settings import RouterSettings


class Closable(Protocol):
    """A client's connection, as its server knows it."""

    def close_if_idle(self) -> None:
        """Close it unless it has a request."""
        ...

    def cut(self) -> None:
        """Close it at once."""
        ...


class Context:
    """Parts, limits, and what is in flight."""

    def __init__(self, gate: Gate, upstream: Upstream, settings: RouterSettings) -> None:
        """Nothing is in flight; needs a running event loop."""
        self.gate = gate
        self.upstream = upstream
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        #: the loop's time
        self.now = self.loop.time
        # Those that every request asks for, since a model's attributes are slow to read.
        self.max_body_bytes = settings.max_body_bytes
        self.client_keepalive_s = settings.client_keepalive_s
        self.first_byte_timeout_s = settings.first_byte_timeout_s
        self.stream_idle_timeout_s = settings.stream_idle_timeout_s
        self.limits = Limits(settings.max_line_bytes, settings.max_head_bytes, settings.max_headers)
        self.connections: set[Closable] = set()
        #: whether connections end with the request that they carry
        self.draining = False
        #: requests whose handling has begun and not ended
        self.in_flight = 0
        #: called whenever `in_flight` falls to 0
        self.on_idle = _nothing
        self._date = ""
        self._date_at = -1

    def end(self) -> None:
        """A request has ended."""
        self.in_flight -= 1
        if not self.in_flight:
            self.on_idle()

    def date(self) -> str:
        """Now, as an HTTP date."""
        second = int(self.now())
        if second != self._date_at:
            self._date_at = second
            self._date = formatdate(usegmt=True)
        return self._date


def _nothing() -> None:
    pass
