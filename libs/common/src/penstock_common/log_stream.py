"""The stream of workers' lines: batches are appended by node agents and read by the api.

The server acknowledges a batch before it is on disk (`persist_mode: async`), so a server that is
killed may lose the last ones; the numbers of the lines show it.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.messages import LogBatch
from penstock_common.nats.connection import Bus, Received, Subscription
from penstock_common.nats.stream_reader import StreamReader, sequence_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch and its sequence in the stream."""

    sequence: int
    batch: LogBatch


@dataclass(frozen=True, slots=True)
class Page:
    """Batches in the order of the stream."""

    batches: tuple[StoredBatch, ...]
    #: sequence up to which this page has seen
    upto: int
    #: there was more in the stream when it was read
    more: bool


class LogStream:
    """The stream LOGS. All calls but `on_append` raise as `Bus.request` does."""

    def __init__(self, bus: Bus) -> None:
        """Over this bus; nothing is sent."""
        self._bus = bus
        self._reader = StreamReader(bus, subjects.LOGS)

    async def append(self, batch: LogBatch) -> int:
        """Store a batch and give its sequence. Repeating it within two minutes stores it once."""
        subject = subjects.logs(batch.endpoint_id, batch.worker_id)
        headers = {"Nats-Msg-Id": f"{batch.worker_id}.{batch.next_n}.{int(batch.ended)}"}
        stored = await self._bus.store(subject, batch.encode(), headers=headers)
        return stored.sequence

    async def last(self, endpoint_id: str, worker_id: str) -> StoredBatch | None:
        """The worker's last batch; None when the stream has none."""
        return _batch(await self._reader.last(subjects.logs(endpoint_id, worker_id)))

    async def at(self, sequence: int) -> StoredBatch | None:
        """The batch with this sequence; None when it is gone."""
        return _batch(await self._reader.at(sequence))

    async def last_of_each(self, endpoint_id: str) -> tuple[StoredBatch, ...]:
        """The last batch of each worker of an endpoint that the stream knows."""
        return _batches(await self._reader.last_of_each(subjects.logs(endpoint_id, "*")))

    async def after(self, sequence: int, endpoint_id: str, worker_id: str = "*") -> Page:
        """The page behind this sequence of one worker's batches, or of all of an endpoint's."""
        page = await self._reader.after(sequence, subjects.logs(endpoint_id, worker_id))
        return Page(_batches(page.messages), page.upto or sequence, page.more)

    async def keep(self, endpoint_id: str, worker_id: str, batches: int) -> None:
        """Drop the worker's oldest batches; this many stay."""
        body = {"filter": subjects.logs(endpoint_id, worker_id), "keep": batches}
        await self._bus.api(f"STREAM.PURGE.{subjects.LOGS}", body)

    async def last_sequence(self) -> int:
        """The sequence of the stream's last batch, of whatever worker; 0 = it never had one."""
        return (await self._reader.bounds()).last

    def on_append(self, endpoint_id: str, worker_id: str, poke: Callable[[], None]) -> Subscription:
        """Call `poke` for each batch, perhaps a moment before it can be read; `*` = any worker."""
        return self._reader.on_append(subjects.logs(endpoint_id, worker_id), poke)


def _batches(messages: tuple[Received, ...]) -> tuple[StoredBatch, ...]:
    return tuple(found for message in messages if (found := _batch(message)) is not None)


def _batch(message: Received | None) -> StoredBatch | None:
    """The batch in an answer; None when there is none, or none that can be read."""
    if message is None:
        return None
    sequence = sequence_of(message)
    try:
        return StoredBatch(sequence, LogBatch.decode(message.data))
    except ValidationError as error:
        logger.error(
            "log batch cannot be decoded, skipped",
            extra={"action": "log_undecodable", "sequence": sequence, "error": str(error)},
        )
        return None
