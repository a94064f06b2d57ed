"""Brings the lines of one worker into the stream: reads, numbers, batches, publishes.

One batch is under way at a time, in order and until the stream has it: a batch carries where to go
on behind it, so the last one in the stream is all that a later agent process needs to know. While
NATS is away nothing is read (the runtime's own log is the buffer), except at the end of a worker:
then all of it is read at once, since its log will be removed.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from penstock_common.clock import Clock
from penstock_common.errors import BusRefusedError, NoRespondersError, PenstockError
from penstock_common.log_stream import LogStream
from penstock_common.messages import LogBatch
from penstock_common.nats.connection import Bus
from penstock_common.nats.retry import Backoff
from penstock_node_agent.logs.batcher import BATCH_BYTES, LogBatcher
from penstock_node_agent.runtimes.output import Cursor, OutputFollower

logger = logging.getLogger(__name__)

#: A worker that writes more than its share is read at most so fast.
MOST_READ_BYTES_PER_S: Final = 8 * 1024 * 1024
#: When a worker's batches are larger in sum, its oldest go until this share of it is left.
WORKER_BYTES: Final = 16 * 1024 * 1024
_KEPT_RATIO: Final = 0.75
_RETRY_CAP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class FollowerTools:
    """What all followers of a node share."""

    node_id: str
    bus: Bus
    stream: LogStream
    runtime: OutputFollower
    clock: Clock


@dataclass(slots=True)
class _Progress:
    """What of a worker lies in the stream."""

    next_n: int = 1
    cursor: Cursor = ()
    sequence: int = 0
    ended: bool = False


class LogFollower:
    """One run of one worker."""

    def __init__(
        self,
        worker_id: str,
        endpoint_id: str,
        tools: FollowerTools,
        *,
        before: "LogFollower | None" = None,
        fresh: bool,
    ) -> None:
        """A follower that is not run yet.

        Args:
            worker_id: the worker.
            endpoint_id: its endpoint.
            tools: what it works with.
            before: the follower of an earlier run of the same worker; its lines come first.
            fresh: nothing of the worker can be in the stream, but what `before` published.
        """
        self.worker_id = worker_id
        self._endpoint_id = endpoint_id
        self._tools = tools
        self._before = before
        self._fresh = fresh
        self._progress = _Progress()
        self._batcher = LogBatcher()
        self._sizes: deque[int] = deque()
        self._size = 0
        #: set once all that the worker wrote was read
        self.read_all = asyncio.Event()
        #: set once all of it is in the stream
        self.published_all = asyncio.Event()
        self._hurry = asyncio.Event()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    def hurry(self) -> None:
        """The worker has ended and its log will go: read on whatever waits."""
        self._hurry.set()
        self._room.set()

    async def run(self) -> None:
        """Bring all lines into the stream; returns when it has them."""
        self.read_all.clear()
        if self._before is not None:
            await self._before.published_all.wait()
            earlier = self._before._progress  # noqa: SLF001 - its own class
            self._progress = _Progress(earlier.next_n, (), earlier.sequence)
            self._before = None
        elif not self._fresh:
            self._progress = await self._find_progress()
        self._fresh = False  # when it is run again, after a failure
        self._batcher = LogBatcher(self._progress.next_n, self._progress.cursor)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(), name=f"read output {self.worker_id}")
            group.create_task(self._publish(), name=f"publish lines {self.worker_id}")
        self.published_all.set()

    async def _find_progress(self) -> _Progress:
        backoff = Backoff(first_s=0.1, cap_s=_RETRY_CAP_S)
        while True:
            await self._tools.bus.wait_ready()
            try:
                last = await self._tools.stream.last(self._endpoint_id, self.worker_id)
            except PenstockError as error:
                self._log_retry("last batch not read, trying again", error)
                await asyncio.sleep(backoff.pause_s(1.0))
                continue
            if last is None:
                return _Progress()
            batch = last.batch
            return _Progress(batch.next_n, batch.cursor, last.sequence, batch.ended)

    # ---- read

    async def _read(self) -> None:
        clock, batcher = self._tools.clock, self._batcher
        outputs = self._tools.runtime.follow(self.worker_id, self._progress.cursor, batcher.skims)
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                cost = batcher.add(output, clock.utc(), clock.monotonic())
                self._wake.set()
                if batcher.dropping:
                    await self._unless_hurried(cost / MOST_READ_BYTES_PER_S)
                while batcher.full and not self._hurry.is_set():
                    self._room.clear()
                    await self._room.wait()
        batcher.end(clock.monotonic())
        self.read_all.set()
        self._wake.set()

    async def _unless_hurried(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._hurry.wait()

    # ---- publish

    async def _publish(self) -> None:
        batcher = self._batcher
        while True:
            self._wake.clear()
            if not batcher.waiting:
                if self.read_all.is_set():
                    break
                await self._wake.wait()
                continue
            due_s = batcher.due_in(self._tools.clock.monotonic())
            if due_s and not self.read_all.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await self._wake.wait()
                continue
            await self._publish_next()
        if not self._progress.ended:
            await self._publish_next()

    async def _publish_next(self) -> None:
        entries, next_n, cursor = self._batcher.take()
        ended = self.read_all.is_set() and not self._batcher.waiting
        batch = LogBatch(
            worker_id=self.worker_id,
            endpoint_id=self._endpoint_id,
            node_id=self._tools.node_id,
            entries=entries,
            next_n=next_n,
            cursor=cursor,
            previous=self._progress.sequence,
            ended=ended,
        )
        self._room.set()
        sequence = await self._store(batch)
        self._progress = _Progress(next_n, cursor, sequence, ended)
        await self._bound_size(
            sum(len(getattr(e, "text", "")) for e in entries) + BATCH_BYTES // 64
        )

    async def _store(self, batch: LogBatch) -> int:
        """Publish until the stream has it; the same id makes repeating safe."""
        backoff = Backoff(first_s=0.1, cap_s=_RETRY_CAP_S)
        while True:
            await self._tools.bus.wait_ready()
            try:
                return await self._tools.stream.append(batch)
            except (BusRefusedError, NoRespondersError) as error:
                self._tools.bus.ensure_soon()  # the stream may be gone
                self._log_retry("lines not taken by the stream, trying again", error)
            except PenstockError as error:
                self._log_retry("lines not published, trying again", error)
            await asyncio.sleep(backoff.pause_s(1.0))

    async def _bound_size(self, size: int) -> None:
        """Keep the worker's batches within `WORKER_BYTES`, about."""
        self._sizes.append(size)
        self._size += size
        if self._size <= WORKER_BYTES:
            return
        while self._size > WORKER_BYTES * _KEPT_RATIO:
            self._size -= self._sizes.popleft()
        try:
            await self._tools.stream.keep(self._endpoint_id, self.worker_id, len(self._sizes))
        except PenstockError as error:
            # The stream's own bounds hold; the next time drops what is too much.
            self._log_retry("a worker's oldest lines not dropped", error)

    def _log_retry(self, message: str, error: PenstockError) -> None:
        logger.warning(
            message,
            extra={"action": "log_retried", "worker_id": self.worker_id, "error": str(error)},
        )
