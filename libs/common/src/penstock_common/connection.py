"""One NATS connection that outlives its client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock_common.clock import Clock
from penstock_common.settings import NatsSettings


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    reply: str


@dataclass(frozen=True, slots=True)
class Stored:
    """JetStream's acknowledgement of a publish."""

    sequence: int
    duplicate: bool


class Subscription:
    """A subscription that survives reconnects and rebuilt clients."""

    async def close(self) -> None:
        """Stop receiving."""
        raise NotImplementedError


class Bus:
    """A connection to NATS: reconnects for ever, never deaf, no exception out of a callback."""

    @classmethod
    async def connect(
        cls, settings: NatsSettings, *, name: str, clock: Clock, wait_s: float = 30.0
    ) -> "Bus":
        """A connected bus; waits up to `wait_s` for the first connection."""
        raise NotImplementedError

    @property
    def connected(self) -> bool:
        """Whether the connection is up right now."""
        raise NotImplementedError

    @property
    def generation(self) -> int:
        """Counts connections made, from 1; it changes with every reconnect."""
        raise NotImplementedError

    def on_connect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every later (re)connect; the answer removes it."""
        raise NotImplementedError

    def on_disconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the connection is lost; the answer removes it."""
        raise NotImplementedError

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send a core message now, or raise `BusDisconnectedError`: nothing is sent later."""
        raise NotImplementedError

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> Received:
        """The answer of one responder."""
        raise NotImplementedError

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = 2.0,
        headers: Mapping[str, str] | None = None,
    ) -> Stored:
        """Publish into a stream and wait for its acknowledgement."""
        raise NotImplementedError

    async def subscribe(
        self, subject: str, handler: Callable[[Received], None], *, queue: str = ""
    ) -> Subscription:
        """Call `handler` for each message; returns when the server has the subscription."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close for good; safe to repeat, also while disconnected."""
        raise NotImplementedError
