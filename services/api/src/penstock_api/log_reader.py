"""Reads workers' lines for one client, as far as there are any and on as they come.

How a stream is followed says `following.py`; what the stream drops meanwhile is said, as everything
that is missing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from penstock_api.following import Pause, follow
from penstock_api.log_reading import Beginning, Continuity, Position, Shown, last_lines, n_lines
from penstock_api.open_streams import OpenStreams
from penstock_api.store import Store
from penstock_api.workers import WorkerNotFoundError
from penstock_client.documents import LogEndDocument
from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.log_stream import LogStream, Page, StoredBatch
from penstock_common.states import ENDED

#: A worker that is gone without an end of its lines has said its last word after so long.
GONE_S: Final = 5.0
#: For the last lines of an endpoint, its latest workers are looked at, so many.
_MOST_WORKERS: Final = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants to read."""

    endpoint_id: str
    #: None = all workers of the endpoint
    worker_id: str | None
    #: go on when all that there is was shown
    follow: bool
    #: begin with the last lines, so many; None = with the first that the stream has
    tail: int | None = None
    #: begin behind this; goes before `tail`
    position: Position | None = None


class LogReader:
    """Makes readers."""

    def __init__(self, stream: LogStream, store: Store, clock: Clock, opened: OpenStreams) -> None:
        self._stream = stream
        self._store = store
        self._clock = clock
        self._opened = opened

    async def read(self, wanted: Wanted) -> AsyncGenerator[list[Shown] | LogEndDocument, None]:
        """Lines as they come; an empty list about once a second while none do; at last an end.

        When the api stops it ends without an end document: there may be more.

        Raises:
            WorkerNotFoundError, TooManyStreamsError: before the first answer.
            PenstockError: NATS is away, before the first answer; later it is waited for.
        """
        woken = asyncio.Event()
        watched = wanted.worker_id or "*"
        with self._opened.opened(woken.set):
            subscription = self._stream.on_append(wanted.endpoint_id, watched, woken.set)
            try:
                last = await self._last(wanted)
                beginning = await self._begin(wanted, last)
                async for answer in self._go_on(wanted, beginning, last, woken):
                    yield answer
            finally:
                await subscription.close()

    async def _go_on(
        self,
        wanted: Wanted,
        beginning: Beginning,
        last: StoredBatch | None,
        woken: asyncio.Event,
    ) -> AsyncGenerator[list[Shown] | LogEndDocument, None]:
        continuity = Continuity(beginning)
        heard_at = self._clock.monotonic()

        async def fetch(after: int) -> Page:
            return await self._stream.after(after, wanted.endpoint_id, wanted.worker_id or "*")

        pages = follow(fetch, beginning.after, woken=woken, streams=self._opened)
        async with contextlib.aclosing(pages):
            async for page in pages:
                if isinstance(page, Page):
                    for stored in page.batches:
                        last, heard_at = stored, self._clock.monotonic()
                        yield continuity.read(stored)
                    continue
                if page is Pause.CAUGHT_UP:
                    silent_s = self._clock.monotonic() - heard_at
                    end = self._end(wanted, last, silent_s)
                    if end is not None:
                        yield end
                        return
                yield []

    async def _last(self, wanted: Wanted) -> StoredBatch | None:
        """The worker's last batch.

        Raises:
            WorkerNotFoundError: it has none and never was.
        """
        if wanted.worker_id is None:
            return None
        last = await self._stream.last(wanted.endpoint_id, wanted.worker_id)
        if last is None and self._node_of(wanted) is None:
            raise WorkerNotFoundError(f"this endpoint has, and had, no worker '{wanted.worker_id}'")
        return last

    async def _begin(self, wanted: Wanted, last: StoredBatch | None) -> Beginning:
        if wanted.position is not None:
            return await self._behind(wanted, wanted.position)
        if wanted.tail is None:
            return Beginning()
        lasts: tuple[StoredBatch, ...]
        if wanted.worker_id is not None:
            lasts = () if last is None else (last,)
        else:
            each = await self._stream.last_of_each(wanted.endpoint_id)
            lasts = tuple(sorted(each, key=lambda stored: stored.sequence))[-_MOST_WORKERS:]
        histories = {}
        for stored in lasts:
            histories[stored.batch.worker_id] = await self._history(stored, wanted.tail)
        return last_lines(histories, wanted.tail)

    async def _behind(self, wanted: Wanted, position: Position) -> Beginning:
        after = position.sequence - 1
        if await self._stream.last_sequence() < position.sequence:
            after = 0  # the stream was made anew: its sequences say nothing any more
        first = {} if wanted.worker_id is None else {wanted.worker_id: position.n + 1}
        return Beginning(max(0, after), first, from_start=False, resumed=position)

    async def _history(self, last: StoredBatch, count: int) -> list[StoredBatch]:
        """A worker's last batches, oldest first, with so many lines if the stream has them."""
        batches = [last]
        while n_lines(batches) < count and batches[0].batch.previous:
            before = await self._stream.at(batches[0].batch.previous)
            if before is None or before.batch.worker_id != last.batch.worker_id:
                break
            batches.insert(0, before)
        return batches

    # ---- the end

    def _end(
        self, wanted: Wanted, last: StoredBatch | None, silent_s: float
    ) -> LogEndDocument | None:
        if not wanted.follow:
            return LogEndDocument(why="caught_up")
        if wanted.worker_id is None:
            gone = self._store.endpoints.synced and (
                wanted.endpoint_id not in self._store.endpoints.rows
            )
            return LogEndDocument(why="deleted") if gone else None
        node_id = last.batch.node_id if last is not None else self._node_of(wanted)
        if node_id is not None and self._lives(node_id, wanted.worker_id):
            return None
        if last is not None and last.batch.ended:
            return LogEndDocument(why="ended")
        return LogEndDocument(why="gone") if silent_s > GONE_S else None

    def _lives(self, node_id: str, worker_id: str) -> bool:
        """Whether the worker may write, or be started; while that is not known, it does."""
        if not self._store.worker_status.synced:
            return True
        key = subjects.worker_key(node_id, worker_id)
        status = self._store.worker_status.rows.get(key)
        if status is not None:
            return status.value.state not in ENDED
        return self._store.is_assigned(key)

    def _node_of(self, wanted: Wanted) -> str | None:
        """The node on which the worker is assigned; None = it is not."""
        for assignment in self._store.assignments().values():
            if assignment.worker_id == wanted.worker_id:
                of_this = assignment.endpoint_id == wanted.endpoint_id
                return assignment.node_id if of_this else None
        return None
