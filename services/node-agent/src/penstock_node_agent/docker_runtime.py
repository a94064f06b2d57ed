"""Workers as containers of a Docker engine.

The SDK is synchronous, so each call runs in a thread of a bounded pool. Calls about one worker run
one after the other, also when their caller was cancelled: a thread cannot be. No call waits for a
worker in a thread: ends are noticed by the engine's event stream (one thread), and by a listing
every few seconds that finds what the stream missed.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from docker import APIClient
from typing_extensions import override

from penstock_common.messages import RuntimeKind
from penstock_common.states import WorkerReason
from penstock_node_agent import docker_containers as containers
from penstock_node_agent.daemon_threads import DaemonThreads
from penstock_node_agent.docker_client import connect
from penstock_node_agent.docker_containers import DockerSettings
from penstock_node_agent.docker_disks import DiskWatch
from penstock_node_agent.docker_errors import (
    ENGINE_ERRORS,
    engine_failure,
    explanation,
    is_status,
    start_failure,
)
from penstock_node_agent.docker_events import DeathWatch
from penstock_node_agent.docker_logs import EngineLogs
from penstock_node_agent.docker_maker import ContainerMaker
from penstock_node_agent.docker_pulls import ImagePuller
from penstock_node_agent.log_files import clipped
from penstock_node_agent.output import Cursor, Output, Skim, read_all
from penstock_node_agent.pull_bytes import PulledBytes
from penstock_node_agent.runtime import (
    BoundExceededError,
    Exit,
    Found,
    Progress,
    Runtime,
    RuntimeFailedError,
    Started,
    StartFailedError,
    StartOrder,
    StopFailedError,
)

logger = logging.getLogger(__name__)

_CALL_THREADS: Final = 8
_LIST_PERIOD_TICKS: Final = 5
_END_POLL_S: Final = 1.0
#: From SIGKILL to the engine's word that the container has ended.
KILL_WAIT_S: Final = 15.0
_REMOVE_TRIES: Final = 20
#: Longest wait at the end for calls that run; after it they are left alone.
_CLOSE_S: Final = 2.0

_T = TypeVar("_T")


class DockerRuntime(Runtime):
    """Runs an image as a container, with one port published on one address."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._calls = DaemonThreads(_CALL_THREADS, "docker-call")
        self._puller = ImagePuller(self._new_client, settings.pull_pauses_s)
        self._api: APIClient | None = None
        self._deaths: DeathWatch | None = None
        #: the call that runs for a worker
        self._running: dict[str, asyncio.Future[Any]] = {}
        #: workers started or listed by this process; set = look whether it has ended
        self._known: dict[str, asyncio.Event] = {}
        self._maker = ContainerMaker(settings)
        self._disks = DiskWatch(settings.node_id, self._look_at)
        self._logs = EngineLogs(settings.docker_host)
        self._ticks = 0
        self._engine_answers = True

    @property
    @override
    def kind(self) -> RuntimeKind:
        """`docker`."""
        return "docker"

    @property
    @override
    def proxied_ports(self) -> bool:
        """True: the engine's proxy accepts connections before the worker listens."""
        return True

    @property
    def _client(self) -> APIClient:
        if self._api is None:
            raise RuntimeFailedError("the docker runtime is not open")
        return self._api

    def _new_client(self, timeout_s: float) -> APIClient:
        return connect(self._settings.docker_host, timeout_s)

    @override
    async def open(self) -> None:
        """Connect to the engine."""
        self._api = await self._call(lambda: self._new_client(self._settings.timeout_s))
        loop = asyncio.get_running_loop()
        self._deaths = DeathWatch(
            lambda: self._new_client(self._settings.timeout_s),
            self._settings.node_id,
            lambda worker_id: loop.call_soon_threadsafe(self._look_at, worker_id),
        )
        self._deaths.start()

    def _look_at(self, worker_id: str | None) -> None:
        """Have the waiters of a worker, or of all, ask whether it has ended."""
        for known, event in self._known.items():
            if worker_id in (None, known):
                event.set()

    @override
    async def list_workers(self) -> tuple[Found, ...]:
        """Containers with this node's label."""
        found = []
        for item in await self._list():
            self._known.setdefault(item.worker_id, asyncio.Event())
            if item.exit is None:
                found.append(item)
            else:
                ended = await self._try_exit(item.worker_id)
                found.append(replace(item, exit=ended or item.exit))
        # An agent that dies in a start, or in a removal, may leave volumes and no container.
        bare = await self._workers_with_volumes() - {item.worker_id for item in found}
        return (*found, *(Found(w, address=None, created_only=True) for w in sorted(bare)))

    async def _workers_with_volumes(self) -> set[str]:
        label = f"{containers.NODE_LABEL}={self._settings.node_id}"
        answer = await self._call(lambda: self._client.volumes(filters={"label": label}))
        return {volume["Labels"][containers.WORKER_LABEL] for volume in answer["Volumes"] or ()}

    async def _list(self) -> tuple[Found, ...]:
        managed = [
            f"{containers.MANAGED_LABEL}=1",
            f"{containers.NODE_LABEL}={self._settings.node_id}",
        ]
        summaries = await self._call(
            lambda: self._client.containers(all=True, filters={"label": managed})
        )
        found = (containers.read_found(item, self._settings.address) for item in summaries)
        return tuple(item for item in found if item is not None)

    @override
    async def start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Started:
        """Create the container, pulling its image when it is absent, and start it."""
        report = on_progress or (lambda _progress: None)
        if not await self._try_create(order):
            assert order.image is not None
            report(Progress.PULLING)
            credentials = await order.credentials() if order.credentials else None
            await self._puller.pull(order.image, credentials, on_bytes)
            report(Progress.PULLED)
            if not await self._try_create(order):
                raise StartFailedError(
                    WorkerReason.IMAGE_NOT_FOUND, f"{order.image} is gone after its pull"
                )
        else:
            report(Progress.PULLED)
        self._known.setdefault(order.worker_id, asyncio.Event())
        report(Progress.CREATED)
        async with _start_errors():
            port = await self._for_worker(
                order.worker_id, functools.partial(self._maker.start, self._client, order)
            )
        report(Progress.STARTED)
        return Started(self._settings.address, port)

    async def _try_create(self, order: StartOrder) -> bool:
        async with _start_errors():
            return await self._for_worker(
                order.worker_id, functools.partial(self._maker.try_create, self._client, order)
            )

    @override
    async def wait(self, worker_id: str) -> Exit:
        """Wait for the engine's word that the container has ended."""
        looking = self._known.get(worker_id)
        if looking is None:
            raise RuntimeFailedError(f"there is no worker {worker_id}")
        while True:
            looking.clear()
            try:
                ended = await self._try_exit(worker_id)
            except RuntimeFailedError:
                ended = None  # the engine is away; `tend` says so, and looks again
            if ended is not None:
                return ended
            if (problem := self._disks.problem(worker_id)) is not None:
                raise BoundExceededError(WorkerReason.DISK_EXCEEDED, problem)
            await looking.wait()

    async def _try_exit(self, worker_id: str) -> Exit | None:
        """How the container ended; without a code when it is gone; None while it runs."""
        name = containers.container_name(worker_id)
        try:
            inspected = await self._for_worker(
                worker_id, lambda: self._client.inspect_container(name)
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return Exit(None)
            raise engine_failure(error) from error
        return containers.read_exit(inspected)

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """The image's stop signal (SIGTERM by default), grace, SIGKILL."""
        name = containers.container_name(worker_id)
        try:
            inspected = await self._for_worker(
                worker_id, lambda: self._client.inspect_container(name)
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return None
            raise engine_failure(error) from error
        if inspected["State"].get("Status") == "created":
            return Exit(None)
        self._known.setdefault(worker_id, asyncio.Event())
        first = inspected["Config"].get("StopSignal") or "SIGTERM"
        for number, wait_s in ((first, grace_s), ("SIGKILL", KILL_WAIT_S)):
            await self._signal(worker_id, number)
            ended = await self._exit_within(worker_id, wait_s)
            if ended is not None:
                return ended
        raise StopFailedError(f"container {name} survives SIGKILL")

    async def _signal(self, worker_id: str, number: str) -> None:
        name = containers.container_name(worker_id)
        try:
            await self._for_worker(worker_id, lambda: self._client.kill(name, number))
        except ENGINE_ERRORS as error:
            # 404, 409: there is nothing to signal any more.
            if not is_status(error, 404) and not is_status(error, 409):
                raise engine_failure(error) from error

    async def _exit_within(self, worker_id: str, wait_s: float) -> Exit | None:
        looking = self._known.setdefault(worker_id, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while True:
                    looking.clear()
                    ended = await self._try_exit(worker_id)
                    if ended is not None:
                        return ended
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_END_POLL_S):
                            await looking.wait()
        return None

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """From the engine's log of the container."""
        name = containers.container_name(worker_id)
        try:
            data = await self._for_worker(
                worker_id, lambda: self._client.logs(name, stdout=True, stderr=True, tail=lines)
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return ()
            raise engine_failure(error) from error
        found = data.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []
        return tuple(clipped(line) for line in found)

    @override
    def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        """From the engine's log of the container."""
        return self._logs.follow(containers.container_name(worker_id), cursor, skim)

    @override
    async def remove(self, worker_id: str) -> None:
        """Remove the ended container and its volumes."""
        await self._call_for(worker_id, lambda: self._remove_container(worker_id))
        await self._call_for(worker_id, lambda: self._remove_volumes(worker_id))
        self._known.pop(worker_id, None)
        self._disks.forget(worker_id)

    def _remove_container(self, worker_id: str) -> None:
        name = containers.container_name(worker_id)
        for attempt in range(_REMOVE_TRIES):
            try:
                self._client.remove_container(name, v=True)
            except ENGINE_ERRORS as error:
                if is_status(error, 404):
                    return
                # Another call removes it already: ask again until it is gone.
                if "in progress" not in explanation(error) or attempt == _REMOVE_TRIES - 1:
                    raise
                threading.Event().wait(0.1)

    def _remove_volumes(self, worker_id: str) -> None:
        label = f"{containers.WORKER_LABEL}={worker_id}"
        for volume in self._client.volumes(filters={"label": label})["Volumes"] or ():
            try:
                self._client.remove_volume(volume["Name"])
            except ENGINE_ERRORS as error:
                if not is_status(error, 404):
                    raise

    @override
    async def images(self) -> tuple[str, ...]:
        """Tags of the engine's images."""
        images = await self._call(lambda: self._client.images())
        return tuple(sorted({t for i in images for t in i.get("RepoTags") or () if "<" not in t}))

    @override
    async def tend(self) -> None:
        """Every few calls, look for ends that the event stream missed, and measure disks."""
        self._ticks += 1
        self._disks.tend(lambda measure: self._calls.run(lambda: measure(self._client)))
        if self._ticks % _LIST_PERIOD_TICKS:
            return
        try:
            running = {item.worker_id for item in await self._list() if item.address is not None}
        except RuntimeFailedError as error:
            if self._engine_answers:
                logger.error(
                    "docker engine is away; workers run on unseen",
                    extra={"action": "engine_lost", "error": str(error)},
                )
            self._engine_answers = False
            return
        if not self._engine_answers:
            logger.info("docker engine is back", extra={"action": "engine_found"})
            self._engine_answers = True
            self._maker.forget_engine()  # it may be another one now, or differently configured
        for worker_id in self._known.keys() - running:
            self._look_at(worker_id)

    @override
    async def close(self) -> None:
        """Let go; containers run on."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_CLOSE_S)
        await self._logs.close()
        if self._deaths is not None:
            await self._call(self._deaths.stop)
        if self._api is not None:
            self._api.close()
        self._calls.close()
        self._puller.close()

    async def _call(self, work: Callable[[], _T]) -> _T:
        """Do it in a thread.

        Raises:
            RuntimeFailedError: the engine refused, or did not answer.
        """
        try:
            return await self._calls.run(work)
        except ENGINE_ERRORS as error:
            raise engine_failure(error) from error

    async def _call_for(self, worker_id: str, work: Callable[[], _T]) -> _T:
        try:
            return await self._for_worker(worker_id, work)
        except ENGINE_ERRORS as error:
            raise engine_failure(error) from error

    async def _for_worker(self, worker_id: str, work: Callable[[], _T]) -> _T:
        """Do it in a thread, after every call about the same worker that began before."""
        while (before := self._running.get(worker_id)) is not None:
            await asyncio.wait({before})
        running = self._calls.run(work)
        self._running[worker_id] = running

        def forget(done: "asyncio.Future[_T]") -> None:
            if self._running.get(worker_id) is done:
                del self._running[worker_id]

        running.add_done_callback(forget)
        return await asyncio.shield(running)


@asynccontextmanager
async def _start_errors() -> AsyncIterator[None]:
    try:
        yield
    except ENGINE_ERRORS as error:
        raise start_failure(error) from error
