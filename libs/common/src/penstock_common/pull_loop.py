"""A pull loop on a work-queue consumer: as many messages as there is capacity for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock_common.connection import Bus


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message of a stream, to be settled by exactly one of ack, nak, term."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    #: how often it was delivered, from 1
    attempt: int
    #: messages left in the consumer after this one
    pending: int
    ack_subject: str


class PullLoop:
    """Keeps one pull request open that asks for the capacity there is."""

    def __init__(
        self,
        bus: Bus,
        *,
        stream: str,
        consumer: Mapping[str, Any],
        capacity: Callable[[], int],
        handler: Callable[[Delivered], None],
    ) -> None:
        raise NotImplementedError

    def poke(self) -> None:
        """Capacity changed: ask again if more is wanted than is asked for."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin pulling."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End; messages on their way are nak'ed."""
        raise NotImplementedError

    async def ack(self, message: Delivered) -> None:
        """Done with it."""
        raise NotImplementedError

    async def nak(self, message: Delivered, *, delay_s: float = 0.0) -> None:
        """Give it to somebody (else) again after `delay_s`."""
        raise NotImplementedError

    async def in_progress(self, message: Delivered) -> None:
        """Still working on it: restart its ack wait."""
        raise NotImplementedError
