"""Calls to one Docker engine, off the event loop.

The SDK is synchronous, so each call runs in a thread of a bounded pool. Calls about one worker run
one after the other, also when their caller was cancelled: a thread cannot be.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from docker import APIClient
from docker.errors import DockerException

from penstock_common.daemon_threads import DaemonThreads
from penstock_node_agent.runtimes.docker.client import connect, knock
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, engine_failure, explanation
from penstock_node_agent.runtimes.protocol import RuntimeFailedError

_CALL_THREADS: Final = 8
#: Longest wait at the end for calls that run; after it they are left alone.
_CLOSE_S: Final = 2.0

_T = TypeVar("_T")


class EngineCalls:
    """What one agent asks of its engine."""

    def __init__(self, settings: DockerSettings, on_refused: Callable[[str], object]) -> None:
        """Not connected yet; no thread runs yet.

        Args:
            settings: where the engine is.
            on_refused: called with why when the engine takes no connection.
        """
        self._settings = settings
        self._on_refused = on_refused
        self._calls = DaemonThreads(_CALL_THREADS, "docker-call")
        self._api: APIClient | None = None
        #: the call that runs for a worker
        self._running: dict[str, asyncio.Future[Any]] = {}

    @property
    def client(self) -> APIClient:
        """The client that all calls share.

        Raises:
            RuntimeFailedError: `open` was not called.
        """
        if self._api is None:
            raise RuntimeFailedError("the docker runtime is not open")
        return self._api

    def new_client(self, timeout_s: float) -> APIClient:
        """Another client of the engine; blocks."""
        return connect(self._settings.docker_host, timeout_s)

    async def open(self) -> None:
        """Connect.

        Raises:
            RuntimeFailedError: no engine answers.
        """
        self._api = await self.call(lambda: self.new_client(self._settings.timeout_s))

    async def close(self) -> None:
        """Let go of the engine; calls that hang are left alone."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_CLOSE_S)
        if self._api is not None:
            self._api.close()
        self._calls.close()

    def begin(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        """Begin it in a thread; the future raises what the SDK raised."""
        return self._run(work)

    async def call(self, work: Callable[[], _T]) -> _T:
        """Do it in a thread.

        Raises:
            RuntimeFailedError: the engine refused, or did not answer.
        """
        try:
            return await self._run(work)
        except ENGINE_ERRORS as error:
            raise engine_failure(error) from error

    async def call_for(self, worker_id: str, work: Callable[[], _T]) -> _T:
        """Do it in a thread, as `for_worker`.

        Raises:
            RuntimeFailedError: the engine refused, or did not answer.
        """
        try:
            return await self.for_worker(worker_id, work)
        except ENGINE_ERRORS as error:
            raise engine_failure(error) from error

    async def for_worker(self, worker_id: str, work: Callable[[], _T]) -> _T:
        """Do it in a thread, after every call about the same worker that began before.

        Raises:
            DockerException, RequestException: as the SDK raised it.
        """
        while (before := self._running.get(worker_id)) is not None:
            await asyncio.wait({before})
        running = self._run(work)
        self._running[worker_id] = running

        def forget(done: "asyncio.Future[_T]") -> None:
            if self._running.get(worker_id) is done:
                del self._running[worker_id]

        running.add_done_callback(forget)
        return await asyncio.shield(running)

    def _run(self, work: Callable[[], _T]) -> "asyncio.Future[_T]":
        loop = asyncio.get_running_loop()

        def work_if_it_listens() -> _T:
            try:
                knock(self._settings.docker_host)
            except DockerException as error:
                loop.call_soon_threadsafe(self._on_refused, explanation(error))
                raise
            return work()

        return self._calls.run(work_if_it_listens)
