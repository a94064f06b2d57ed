"""Reads the records of ended workers from their stream, in batches (NATS ADR-31, batched direct get)."""

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

from penstock_common.batched_get import batched_get
from penstock_common.connection import Bus, Received
from penstock_common.messages import UsageRecord
from penstock_common.subjects import USAGE, USAGE_ALL

logger = logging.getLogger(__name__)

_BATCH: Final = 500
#: A record is written after its worker's end; so much may clocks differ on who says when.
_MARGIN: Final = timedelta(hours=1)


class UsageReader:
    """Asks the stream USAGE."""

    def __init__(self, bus: Bus, *, batch: int = _BATCH) -> None:
        """A reader over this connection that asks for so many records at once."""
        self._bus = bus
        self._n = batch

    async def read(self, since: datetime) -> AsyncIterator[UsageRecord]:
        """The record of every worker that ended at or after `since`, and of some before.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
            BusRefusedError: it refused to read.
        """
        where: dict[str, Any] = {"start_time": (since - _MARGIN).isoformat()}
        while True:
            question = {**where, "next_by_subj": USAGE_ALL, "batch": self._n}
            messages = await batched_get(self._bus, USAGE, question)
            for message in messages:
                record = _decode(message)
                if record is not None:
                    yield record
            if not messages:
                return
            where = {"seq": int(messages[-1].headers["Nats-Sequence"]) + 1}


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
