"""What every connection of one server shares."""

import asyncio
import logging
from email.utils import formatdate
from typing import Final, Protocol

from penstock_common.open_files import open_files_limit
from penstock_router.gate import Gate
from penstock_router.proxy.heads import Limits
from penstock_router.proxy.upstream import Upstream
from penstock_router.settings import RouterSettings

logger = logging.getLogger(__name__)

#: Files that are no connections of clients or to workers: NATS, what listens, what is read.
_OTHER_FILES: Final = 64
_TOLD_AGAIN_S: Final = 60.0


def connections_within(open_files: int) -> int:
    """How many clients' connections, each with one to a worker, so many open files allow."""
    return max(1, (open_files - _OTHER_FILES) // 2)


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
        self.max_connections = settings.max_connections or connections_within(open_files_limit())
        self.connections: set[Closable] = set()
        #: whether connections end with the request that they carry
        self.draining = False
        #: requests whose handling has begun and not ended
        self.in_flight = 0
        #: called whenever `in_flight` falls to 0
        self.on_idle = _nothing
        self._told_of_turned_away_at = -_TOLD_AGAIN_S
        self._date = ""
        self._date_at = -1

    def end(self) -> None:
        """A request has ended."""
        self.in_flight -= 1
        if not self.in_flight:
            self.on_idle()

    def note_turned_away(self) -> None:
        """A client's connection was one too many; says so in the log, once a minute."""
        now = self.now()
        if now - self._told_of_turned_away_at >= _TOLD_AGAIN_S:
            self._told_of_turned_away_at = now
            logger.warning(
                "clients turned away: too many connections",
                extra={"action": "clients_turned_away", "max_connections": self.max_connections},
            )

    def date(self) -> str:
        """Now, as an HTTP date."""
        second = int(self.now())
        if second != self._date_at:
            self._date_at = second
            self._date = formatdate(usegmt=True)
        return self._date


def _nothing() -> None:
    pass
