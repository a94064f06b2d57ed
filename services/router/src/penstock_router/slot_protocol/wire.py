"""Messages between routers over core NATS: sent in this turn or not at all, read or logged."""

import logging
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from penstock_common.errors import BusDisconnectedError, MessageTooLargeError
from penstock_common.messages import Message
from penstock_common.nats.connection import Bus, Received

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class Wire:
    """One router's side; every protocol on it makes up for what is lost."""

    def __init__(self, bus: Bus) -> None:
        """A wire over this connection."""
        self._bus = bus

    @property
    def connected(self) -> bool:
        """Whether something would be sent."""
        return self._bus.connected

    def tell(self, subject: str, message: Message, *, reply: str = "") -> None:
        """Send, or do nothing while disconnected."""
        try:
            self._bus.publish_nowait(subject, message.encode(), reply=reply)
        except BusDisconnectedError:
            logger.debug("not told while disconnected", extra={"action": "tell_skipped"})
        except MessageTooLargeError as error:
            logger.error(
                "message too large, not sent",
                extra={"action": "tell_too_large", "subject": subject, "error": str(error)},
            )

    def answer(self, reply: str) -> None:
        """Send an empty answer, or do nothing while disconnected."""
        try:
            self._bus.publish_nowait(reply, b"")
        except BusDisconnectedError:
            logger.debug("not answered while disconnected", extra={"action": "tell_skipped"})

    async def listen(self, subject: str, kind: type[M], handler: Callable[[M], None]) -> None:
        """Hand every message on this subject to `handler`; one that cannot be read is logged.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        await self._bus.subscribe(subject, lambda received: _read(received, kind, handler))

    async def listen_raw(self, subject: str, handler: Callable[[Received], None]) -> None:
        """As `listen`, for a handler that wants to see subjects and statuses.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        await self._bus.subscribe(subject, handler)


def _read(received: Received, kind: type[M], handler: Callable[[M], None]) -> None:
    message = decode(received, kind)
    if message is not None:
        handler(message)


def decode(received: Received, kind: type[M]) -> M | None:
    """The message in this payload; None, and an entry in the log, when there is none."""
    try:
        return kind.decode(received.data)
    except ValidationError as error:
        logger.error(
            "message cannot be read, ignored",
            extra={
                "action": "message_unreadable",
                "subject": received.subject,
                "kind": kind.__name__,
                "error": str(error),
            },
        )
        return None
