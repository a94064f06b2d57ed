"""Reads the records of ended workers from their stream."""

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from penstock_common.messages import UsageRecord
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.stream_reader import StreamReader
from penstock_common.subjects import USAGE, USAGE_ALL

logger = logging.getLogger(__name__)

_BATCH: Final = 500
#: A record is written after its worker's end; so much may clocks differ on who says when.
_MARGIN: Final = timedelta(hours=1)


class UsageReader:
    """Asks the stream USAGE."""

    def __init__(self, bus: Bus, *, batch: int = _BATCH) -> None:
        """A reader over this connection that asks for so many records at once."""
        self._stream = StreamReader(bus, USAGE)
        self._n = batch

    async def read(self, since: datetime) -> AsyncIterator[UsageRecord]:
        """The record of every worker that ended at or after `since`, and of some before.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
            BusRefusedError: it refused to read.
        """
        page = await self._stream.since(since - _MARGIN, USAGE_ALL, messages=self._n)
        while page.upto is not None:
            for message in page.messages:
                record = _decode(message)
                if record is not None:
                    yield record
            page = await self._stream.after(page.upto, USAGE_ALL, messages=self._n)


def _decode(message: Received) -> UsageRecord | None:
    try:
        return UsageRecord.decode(message.data)
    except ValueError as error:
        logger.error(
            "usage record cannot be read, not counted",
            extra={
                "action": "usage_unreadable",
                "subject": message.headers.get("Nats-Subject"),
                "error": str(error),
            },
        )
        return None
