"""A bounded pool of threads that does not hold the process's exit.

The interpreter joins the threads of a `ThreadPoolExecutor` when it ends, so one call that hangs
(an engine, a network file system, a name server) would keep a service from ending. These threads
are daemons.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

_T = TypeVar("_T")
_Job: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]

_STOP: Final = None


class DaemonThreads:
    """Runs blocking calls, at most `limit` at once; the others wait their turn."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: jobs that no thread has begun, and threads that have none; one that takes a job leaves both
        #: at once, so neither hides that a further thread is needed
        self._queued = 0
        self._idle = 0
        self._count = 0

    def run(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Begin `work` in a thread; the future gets its result or exception.

        Cancelling the future does not stop work that has begun.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        with self._lock:
            self._queued += 1
            self._jobs.put((work, future, loop))
            if self._queued > self._idle and self._count < self._limit:
                self._count += 1
                name = f"{self._name}-{self._count}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Have the threads end when they are done with what was begun."""
        for _ in range(self._limit):
            self._jobs.put(_STOP)

    def _serve(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                if job is _STOP:
                    return
                self._queued -= 1
            _do(*job)


def _do(
    work: Callable[[], Any], future: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop
) -> None:
    def settle(result: object, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    if future.cancelled():
        return
    result: object = None
    error: BaseException | None = None
    try:
        result = work()
    except Exception as raised:  # noqa: BLE001 - whoever awaits the future gets it
        error = raised
    try:
        loop.call_soon_threadsafe(settle, result, error)
    except RuntimeError:  # the loop has ended: nobody waits any more
        return
