"""The stream of workers' lines: batches are appended by node agents and read by the api.

Reading needs no consumer: pages are fetched by direct gets, and a plain subscription to the same
subjects tells when there is more. So a reader leaves nothing behind on the server, reconnects
without a word, and is as fast as its own reader takes pages.

The server acknowledges a batch before it is on disk (`persist_mode: async`), so a server that is
killed may lose the last ones; the numbers of the lines show it.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from penstock_common import subjects
from penstock_common.batched_get import batched_get
from penstock_common.connection import Bus, Received, Subscription
from penstock_common.errors import BusRefusedError
from penstock_common.messages import LogBatch
from penstock_common.nats_wire import status_of

logger = logging.getLogger(__name__)

#: Most batches, and about as many bytes, that one page holds.
PAGE_BATCHES: Final = 256
PAGE_BYTES: Final = 256 * 1024

_DIRECT_GET: Final = f"$JS.API.DIRECT.GET.{subjects.LOGS}"
_TIMEOUT_S: Final = 5.0
_END_OF_PAGE: Final = 204
_NOTHING: Final = 404


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

    async def append(self, batch: LogBatch) -> int:
        """Store a batch and give its sequence. Repeating it within two minutes stores it once."""
        subject = subjects.logs(batch.endpoint_id, batch.worker_id)
        headers = {"Nats-Msg-Id": f"{batch.worker_id}.{batch.next_n}.{int(batch.ended)}"}
        stored = await self._bus.store(subject, batch.encode(), headers=headers)
        return stored.sequence

    async def last(self, endpoint_id: str, worker_id: str) -> StoredBatch | None:
        """The worker's last batch; None when the stream has none."""
        subject = subjects.logs(endpoint_id, worker_id)
        return _one(await self._bus.request(f"{_DIRECT_GET}.{subject}", b"", timeout_s=_TIMEOUT_S))

    async def at(self, sequence: int) -> StoredBatch | None:
        """The batch with this sequence; None when it is gone."""
        body = json.dumps({"seq": sequence}).encode()
        return _one(await self._bus.request(_DIRECT_GET, body, timeout_s=_TIMEOUT_S))

    async def last_of_each(self, endpoint_id: str) -> tuple[StoredBatch, ...]:
        """The last batch of each worker of an endpoint that the stream knows."""
        messages = await batched_get(
            self._bus, subjects.LOGS, {"multi_last": [subjects.logs(endpoint_id, "*")]}
        )
        return tuple(found for m in messages if (found := _one(m)) is not None)

    async def after(self, sequence: int, endpoint_id: str, worker_id: str = "*") -> Page:
        """The page behind this sequence of one worker's batches, or of all of an endpoint's."""
        messages = await batched_get(
            self._bus,
            subjects.LOGS,
            {
                "seq": sequence + 1,
                "next_by_subj": subjects.logs(endpoint_id, worker_id),
                "batch": PAGE_BATCHES,
                "max_bytes": PAGE_BYTES,
            },
        )
        if not messages:
            return Page((), sequence, more=False)
        return Page(
            tuple(found for m in messages if (found := _one(m)) is not None),
            upto=int(messages[-1].headers["Nats-Sequence"]),
            more=int(messages[-1].headers.get("Nats-Num-Pending", "0")) > 0,
        )

    async def keep(self, endpoint_id: str, worker_id: str, batches: int) -> None:
        """Drop the worker's oldest batches; this many stay."""
        body = {"filter": subjects.logs(endpoint_id, worker_id), "keep": batches}
        await self._bus.api(f"STREAM.PURGE.{subjects.LOGS}", body)

    async def last_sequence(self) -> int:
        """The sequence of the stream's last batch, of whatever worker; 0 = it never had one."""
        answer = await self._bus.api(f"STREAM.INFO.{subjects.LOGS}")
        return int(answer["state"]["last_seq"])

    def on_append(self, endpoint_id: str, worker_id: str, poke: Callable[[], None]) -> Subscription:
        """Call `poke` for each batch, perhaps a moment before it can be read; `*` = any worker."""
        subject = subjects.logs(endpoint_id, worker_id)
        return self._bus.subscribe_nowait(subject, lambda _: poke())


def _one(message: Received) -> StoredBatch | None:
    """The batch in an answer; None when there is none, or none that can be read."""
    status = status_of(message)
    if status == _NOTHING:
        return None
    if status:
        raise BusRefusedError(f"direct get from {subjects.LOGS}: status {status}")
    sequence = int(message.headers["Nats-Sequence"])
    try:
        return StoredBatch(sequence, LogBatch.decode(message.data))
    except ValidationError as error:
        logger.error(
            "log batch cannot be decoded, skipped",
            extra={"action": "log_undecodable", "sequence": sequence, "error": str(error)},
        )
        return None
