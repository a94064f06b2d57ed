"""A runtime whose workers' lines go into the stream: any other runtime, with followers beside it.

A follower begins with a worker's start, or when a worker of an earlier agent process is found. It
ends when all that the worker wrote is in the stream. A worker's remains are removed only when its
output was read to the end, or the wait for that took too long.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from typing_extensions import override

from penstock_common.clock import Clock
from penstock_common.log_stream import LogStream
from penstock_common.messages import ImageRemoved, RuntimeKind
from penstock_common.nats.connection import Bus
from penstock_node_agent.logs.follower import FollowerTools, LogFollower
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.output import Cursor, Output, Skim, read_all
from penstock_node_agent.runtimes.protocol import (
    Exit,
    Found,
    ImageWish,
    Progress,
    RunningImage,
    Runtime,
    RuntimeProblem,
    Started,
    StartOrder,
)
from penstock_node_agent.runtimes.pull_bytes import PulledBytes

logger = logging.getLogger(__name__)

#: Longest wait for the end of an ended worker's output before its remains are removed.
FINISH_S: Final = 10.0
#: At the agent's end, lines that were read get so long to be published.
LINGER_S: Final = 1.0
#: A follower that failed is begun again after so long.
RETRY_S: Final = 1.0
_REMEMBERED: Final = 1_000


class LoggedRuntime(Runtime):
    """Does all that `inner` does, and publishes what its workers write."""

    def __init__(self, inner: Runtime, bus: Bus, node_id: str, clock: Clock) -> None:
        """Publish over `bus`."""
        self._inner = inner
        self._tools = FollowerTools(node_id, bus, LogStream(bus), inner, clock)
        #: endpoints of the workers that this process has seen
        self._endpoints: dict[str, str] = {}
        self._followers: dict[str, LogFollower] = {}
        self._following: dict[LogFollower, asyncio.Task[None]] = {}
        #: followers of workers that are removed: a new start is another run
        self._removed: set[LogFollower] = set()
        #: workers that may be started again under the same id
        self._lately_removed: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def followers(self) -> int:
        """Workers whose lines are not all in the stream yet."""
        return len(self._following)

    @property
    @override
    def kind(self) -> RuntimeKind:
        """Of `inner`."""
        return self._inner.kind

    @property
    @override
    def proxied_ports(self) -> bool:
        """Of `inner`."""
        return self._inner.proxied_ports

    @property
    @override
    def problem(self) -> RuntimeProblem | None:
        """Of `inner`."""
        return self._inner.problem

    @override
    async def open(self) -> None:
        """Open `inner`."""
        await self._inner.open()

    @override
    async def list_workers(self) -> tuple[Found, ...]:
        """Those of `inner`; their output is followed from here on."""
        found = await self._inner.list_workers()
        for worker in found:
            if worker.endpoint_id and not worker.created_only:
                self._endpoints.setdefault(worker.worker_id, worker.endpoint_id)
                self._begin(worker.worker_id, adopted=True)
        return found

    @override
    async def start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Started:
        """Start it, and follow its output from its first byte."""
        self._endpoints[order.worker_id] = order.endpoint_id

        def told(progress: Progress) -> None:
            if progress is Progress.STARTED:
                self._begin(order.worker_id)
            if on_progress is not None:
                on_progress(progress)

        return await self._inner.start(order, told, on_bytes)

    @override
    async def wait(self, worker_id: str) -> Exit:
        """Wait for its end."""
        return await self._inner.wait(worker_id)

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """Stop it."""
        return await self._inner.stop(worker_id, grace_s)

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """Its last lines."""
        return await self._inner.log_tail(worker_id, lines)

    @override
    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        """Where `inner` sees it listen."""
        return await self._inner.listeners(worker_id)

    @override
    def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        """What it writes."""
        return self._inner.follow(worker_id, cursor, skim)

    @override
    async def remove(self, worker_id: str) -> None:
        """Remove what is left of it, once its output was read to the end."""
        if worker_id in self._endpoints:
            # A start that was cancelled in its middle may have started it all the same.
            follower = self._begin(worker_id)
            follower.hurry()
            try:
                async with asyncio.timeout(FINISH_S):
                    await follower.read_all.wait()
            except TimeoutError:
                logger.warning(
                    "output of an ended worker not read to its end",
                    extra={"action": "output_unread", "worker_id": worker_id},
                )
        await self._inner.remove(worker_id)
        if self._endpoints.pop(worker_id, None) is not None:
            self._lately_removed.append(worker_id)
        removed = self._followers.get(worker_id)
        if removed is not None:
            self._removed.add(removed)
            self._forget(removed)

    @override
    async def prewarm(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        """Have `inner` do it."""
        return await self._inner.prewarm(wish, on_bytes)

    @override
    def keep_images(self, images: frozenset[str]) -> None:
        """Have `inner` do it."""
        self._inner.keep_images(images)

    @override
    async def images(self) -> tuple[str, ...]:
        """Those of `inner`."""
        return await self._inner.images()

    @override
    async def tend(self) -> Sequence[ImageRemoved]:
        """Tend `inner`."""
        return await self._inner.tend()

    @override
    async def close(self) -> None:
        """End the followers, lines that were read published first where that is quick."""
        ending = [t for f, t in self._following.items() if f.read_all.is_set()]
        if ending and self._tools.bus.connected:
            await asyncio.wait(ending, timeout=LINGER_S)
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._inner.close()

    # ---- followers

    def _begin(self, worker_id: str, *, adopted: bool = False) -> LogFollower:
        """The follower of this run of the worker, begun now if it is not there."""
        fresh = not adopted and worker_id not in self._lately_removed
        before = self._followers.get(worker_id)
        if before is not None and before not in self._removed:
            return before
        follower = LogFollower(
            worker_id, self._endpoints[worker_id], self._tools, before=before, fresh=fresh
        )
        self._followers[worker_id] = follower
        task = asyncio.create_task(self._follow(follower), name=f"follow {worker_id}")
        self._following[follower] = task
        return follower

    async def _follow(self, follower: LogFollower) -> None:
        try:
            while not follower.published_all.is_set():
                try:
                    await follower.run()
                except Exception:
                    # It goes on behind the last batch in the stream, so nothing is lost by it.
                    logger.exception(
                        "follower of a worker's output failed, begun again",
                        extra={"action": "follower_failed", "worker_id": follower.worker_id},
                    )
                    await asyncio.sleep(RETRY_S)
        finally:
            del self._following[follower]
            self._forget(follower)

    def _forget(self, follower: LogFollower) -> None:
        """Drop a follower whose worker is removed and whose lines are published."""
        if follower in self._following or follower not in self._removed:
            return
        self._removed.discard(follower)
        if self._followers.get(follower.worker_id) is follower:
            del self._followers[follower.worker_id]
