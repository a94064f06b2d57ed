"""Workers as containers of a Docker engine.

Calls run in threads of a bounded pool (`calls.py`). No call waits for a worker in a thread:
ends are noticed by the engine's event stream (one thread), and by a listing every few seconds that
finds what the stream missed (`ends.py`).
"""

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from typing_extensions import override

from penstock_common.clock import Clock, SystemClock
from penstock_common.daemon_threads import DaemonThreads
from penstock_common.messages import ImageRemoved, RuntimeKind
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes import proc_net
from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.calls import EngineCalls
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.disks import DiskWatch
from penstock_node_agent.runtimes.docker.ends import ContainerEnds
from penstock_node_agent.runtimes.docker.errors import (
    ENGINE_ERRORS,
    engine_failure,
    explanation,
    is_status,
    start_failure,
)
from penstock_node_agent.runtimes.docker.events import DeathWatch
from penstock_node_agent.runtimes.docker.image_cleaner import ImageCare, ImageCleaner
from penstock_node_agent.runtimes.docker.images import Chosen, WorkerImages
from penstock_node_agent.runtimes.docker.logs import EngineLogs
from penstock_node_agent.runtimes.docker.maker import ContainerMaker
from penstock_node_agent.runtimes.docker.pulls import ImagePuller
from penstock_node_agent.runtimes.docker.watch import EngineWatch
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.log_files import clipped
from penstock_node_agent.runtimes.output import Cursor, Output, Skim, read_all
from penstock_node_agent.runtimes.protocol import (
    Exit,
    Found,
    ImageWish,
    Progress,
    RunningImage,
    Runtime,
    RuntimeFailedError,
    RuntimeProblem,
    Started,
    StartFailedError,
    StartOrder,
)
from penstock_node_agent.runtimes.pull_bytes import PulledBytes

logger = logging.getLogger(__name__)

_REMOVE_TRIES: Final = 20
_LOOKS: Final = "looks at where workers listen"


class DockerRuntime(Runtime):
    """Runs an image as a container, with one port published on one address."""

    def __init__(
        self,
        settings: DockerSettings,
        care: ImageCare | None = None,
        clock: Clock | None = None,
    ) -> None:
        """A runtime that is not open yet; without `care` no image is ever removed."""
        self._settings = settings
        self._engine = EngineCalls(settings, self._on_gone)
        self._puller = ImagePuller(self._engine.new_client, settings.pull_pauses_s, settings.pulls)
        care = care or ImageCare()
        self._images = WorkerImages(self._engine, self._puller, care)
        self._cleaner = ImageCleaner(settings.node_id, care, lambda: self._images.wanted)
        self._deaths: DeathWatch | None = None
        self._disks = DiskWatch(settings.node_id, lambda worker_id: self._ends.look_at(worker_id))
        self._maker = ContainerMaker(settings)
        local = settings.docker_host.startswith("unix://")
        self._watch = EngineWatch(
            self._engine.new_client,
            settings.node_id,
            clock or SystemClock(),
            answer_s=settings.answer_s,
            local=local,
            on_listed=self._on_listed,
            # It may be another one now, or differently configured.
            on_back=self._maker.forget_engine,
        )
        self._logs = EngineLogs(settings.docker_host)
        self._ends = ContainerEnds(self._engine, self._watch, self._disks.problem, local=local)
        #: workers of the last look whose containers nobody here has begun
        self._strays: set[str] = set()

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
    @override
    def problem(self) -> RuntimeProblem | None:
        """That the engine does not answer, or that its disk is full."""
        return self._watch.problem

    @override
    async def open(self) -> None:
        """Connect to the engine."""
        try:
            await self._engine.open()
        except RuntimeFailedError as error:
            self._watch.note_trouble(str(error), gone=True)
            raise
        if self._deaths is not None:
            return
        loop = asyncio.get_running_loop()
        self._deaths = DeathWatch(
            lambda: self._engine.new_client(self._settings.timeout_s),
            self._settings.node_id,
            on_death=lambda worker: loop.call_soon_threadsafe(self._ends.look_at, worker),
            on_oom=lambda worker: loop.call_soon_threadsafe(self._ends.note_oom, worker),
            on_break=lambda problem: loop.call_soon_threadsafe(self._on_gone, problem),
        )
        self._deaths.start()

    def _on_gone(self, problem: str) -> None:
        self._watch.note_trouble(problem, gone=True)

    def _on_listed(self, running: Collection[str], idle: Collection[str]) -> None:
        self._ends.look_for_ends(running)
        # An engine that hung may carry out a creation that was given up and cleaned up after. Twice
        # in a row, for a listing may be older than the removal of what it holds.
        strays = set(idle) - self._ends.known
        for worker_id in strays & self._strays:
            logger.warning(
                "container belongs to no worker, removing it",
                extra={"action": "stray_removed", "worker_id": worker_id},
            )
            removing = self._engine.begin(functools.partial(self._remove_stray, worker_id))
            # An engine that takes no connection is said by who watches it; a later look tries again.
            removing.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._strays = strays - self._strays

    def _remove_stray(self, worker_id: str) -> None:
        try:
            self._remove_container(worker_id)
            self._remove_volumes(worker_id)
        except ENGINE_ERRORS as error:
            logger.warning(
                "stray container not removed, trying again",
                extra={
                    "action": "stray_left",
                    "worker_id": worker_id,
                    "error": explanation(error),
                },
            )

    @override
    async def list_workers(self) -> tuple[Found, ...]:
        """Containers with this node's label."""
        found = []
        for item in await self._list():
            self._ends.note(item.worker_id)
            if item.exit is None:
                found.append(item)
            else:
                ended = await self._ends.try_exit(item.worker_id)
                found.append(replace(item, exit=ended or item.exit))
        # An agent that dies in a start, or in a removal, may leave volumes and no container.
        bare = await self._workers_with_volumes() - {item.worker_id for item in found}
        return (*found, *(Found(w, address=None, created_only=True) for w in sorted(bare)))

    async def _workers_with_volumes(self) -> set[str]:
        label = f"{containers.NODE_LABEL}={self._settings.node_id}"
        answer = await self._engine.call(
            lambda: self._engine.client.volumes(filters={"label": label})
        )
        return {volume["Labels"][containers.WORKER_LABEL] for volume in answer["Volumes"] or ()}

    async def _list(self) -> tuple[Found, ...]:
        managed = [
            f"{containers.MANAGED_LABEL}=1",
            f"{containers.NODE_LABEL}={self._settings.node_id}",
        ]
        summaries = await self._engine.call(
            lambda: self._engine.client.containers(all=True, filters={"label": managed})
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
        try:
            return await self._start(order, on_progress, on_bytes)
        except StartFailedError as error:
            if error.reason is WorkerReason.NO_SPACE:
                self._watch.note_no_space()
            raise

    async def _start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None,
        on_bytes: Callable[[PulledBytes], None] | None,
    ) -> Started:
        report = on_progress or (lambda _progress: None)
        self._ends.note(order.worker_id)
        with self._images.held(order.wish):
            chosen = await self._create(order, report, on_bytes)
        order = replace(order, image=chosen.reference)
        report(Progress.CREATED)
        async with _start_errors():
            port = await self._engine.for_worker(
                order.worker_id, functools.partial(self._maker.start, self._engine.client, order)
            )
        report(Progress.STARTED)
        return Started(self._settings.address, port, chosen.image)

    async def _create(
        self,
        order: StartOrder,
        report: Callable[[Progress], None],
        on_bytes: Callable[[PulledBytes], None] | None,
    ) -> Chosen:
        """Have the container made; gives from which image."""
        chosen = await self._images.choose(order.wish)
        if await self._try_create(replace(order, image=chosen.reference)):
            report(Progress.PULLED)
            return chosen
        report(Progress.PULLING)
        chosen = await self._images.pull(order.wish, chosen, on_bytes)
        report(Progress.PULLED)
        if not await self._try_create(replace(order, image=chosen.reference)):
            raise StartFailedError(
                WorkerReason.IMAGE_NOT_FOUND, f"{chosen.reference} is gone after its pull"
            )
        return chosen

    async def _try_create(self, order: StartOrder) -> bool:
        async with _start_errors():
            return await self._engine.for_worker(
                order.worker_id,
                functools.partial(self._maker.try_create, self._engine.client, order),
            )

    @override
    async def wait(self, worker_id: str) -> Exit:
        """Wait for the engine's word that the container has ended."""
        return await self._ends.wait(worker_id)

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """The image's stop signal (SIGTERM by default), grace, SIGKILL."""
        return await self._ends.stop(worker_id, grace_s)

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """From the engine's log of the container."""
        name = containers.container_name(worker_id)
        try:
            data = await self._engine.for_worker(
                worker_id,
                lambda: self._engine.client.logs(name, stdout=True, stderr=True, tail=lines),
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
    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        """From the kernel's table of the container's network, where this machine shows it."""
        name = containers.container_name(worker_id)
        try:
            # All looks one after the other, under a name that no worker has: with an engine that hangs
            # they hold one thread, though who asks gives up and asks again.
            return await self._engine.call_for(_LOOKS, lambda: self._listeners(name))
        except RuntimeFailedError:
            return None  # it is gone, or who watches the engine says so

    def _listeners(self, name: str) -> tuple[Listener, ...] | None:
        inspected = self._engine.client.inspect_container(name)
        pid = inspected["State"].get("Pid")
        return proc_net.listeners_of_container(pid, inspected["Id"]) if pid else None

    @override
    async def remove(self, worker_id: str) -> None:
        """Remove the ended container and its volumes."""
        await self._engine.call_for(worker_id, lambda: self._remove_container(worker_id))
        await self._engine.call_for(worker_id, lambda: self._remove_volumes(worker_id))
        self._ends.forget(worker_id)
        self._disks.forget(worker_id)

    def _remove_container(self, worker_id: str) -> None:
        name = containers.container_name(worker_id)
        for attempt in range(_REMOVE_TRIES):
            try:
                self._engine.client.remove_container(name, v=True)
            except ENGINE_ERRORS as error:
                if is_status(error, 404):
                    return
                # Another call removes it already: ask again until it is gone.
                if "in progress" not in explanation(error) or attempt == _REMOVE_TRIES - 1:
                    raise
                threading.Event().wait(0.1)

    def _remove_volumes(self, worker_id: str) -> None:
        label = f"{containers.WORKER_LABEL}={worker_id}"
        for volume in self._engine.client.volumes(filters={"label": label})["Volumes"] or ():
            try:
                self._engine.client.remove_volume(volume["Name"])
            except ENGINE_ERRORS as error:
                if not is_status(error, 404):
                    raise

    @override
    async def prewarm(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        """Pull the image, unless the node has it as its registry has it."""
        return await self._images.have(wish, on_bytes)

    @override
    def keep_images(self, images: frozenset[str]) -> None:
        """Clean up none of these references' repositories from now on."""
        self._images.keep(images)

    @override
    async def images(self) -> tuple[str, ...]:
        """Tags and digests of the engine's images."""
        images = await self._engine.call(lambda: self._engine.client.images())
        names = (i.get(kind) or () for i in images for kind in ("RepoTags", "RepoDigests"))
        return tuple(sorted({name for of_one in names for name in of_one if "<" not in name}))

    @override
    async def tend(self) -> list[ImageRemoved]:
        """Look at the engine and for ends that the event stream missed, measure disks, clean up."""
        self._disks.tend(lambda measure: self._engine.begin(lambda: measure(self._engine.client)))
        removed = self._cleaner.tend(
            lambda clean: self._engine.begin(lambda: clean(self._engine.client))
        )
        self._watch.tend()
        self._ends.tick()
        return removed

    @override
    async def close(self) -> None:
        """Let go; containers run on."""
        await self._logs.close()
        if self._deaths is not None:
            # Not in a thread of the pool: with an engine that hangs, all of them may.
            await DaemonThreads(1, "docker-close").run(self._deaths.stop)
        await self._engine.close()
        self._watch.close()
        self._puller.close()


@asynccontextmanager
async def _start_errors() -> AsyncIterator[None]:
    try:
        yield
    except ENGINE_ERRORS as error:
        raise start_failure(error) from error
