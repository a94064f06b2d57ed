"""Reads the records of ended workers from their stream, in batches (NATS ADR-31, batched direct get)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

from penstock_common.connection import Bus, Received
from penstock_common.errors import BusRefusedError, BusTimeoutError
from penstock_common.messages import UsageRecord
from penstock_common.nats_wire import status_of
from penstock_common.subjects import USAGE, USAGE_ALL

logger = logging.getLogger(__name__)

_BATCH: Final = 500
#: Longest wait for the next record of a batch.
_WAIT_S: Final = 5.0
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
            messages = await self._batch(where)
            for message in messages:
                record = _decode(message)
                if record is not None:
                    yield record
            if not messages:
                return
            where = {"seq": int(messages[-1].headers["Nats-Sequence"]) + 1}

    async def _batch(self, where: dict[str, Any]) -> list[Received]:
        came: asyncio.Queue[Received] = asyncio.Queue()
        inbox = self._bus.new_inbox()
        subscription = self._bus.subscribe_nowait(inbox, came.put_nowait)
        try:
            question = {**where, "next_by_subj": USAGE_ALL, "batch": self._n}
            self._bus.publish_nowait(
                f"$JS.API.DIRECT.GET.{USAGE}", json.dumps(question).encode(), reply=inbox
            )
            messages: list[Received] = []
            while True:
                try:
                    async with asyncio.timeout(_WAIT_S):
                        message = await came.get()
                except TimeoutError:
                    raise BusTimeoutError from None
                match status_of(message):
                    case 0:
                        messages.append(message)
                    case 204 | 404:  # the end of the batch; nothing (more) is there
                        return messages
                    case status:
                        raise BusRefusedError(f"usage cannot be read: status {status}")
        finally:
            await subscription.close()


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
