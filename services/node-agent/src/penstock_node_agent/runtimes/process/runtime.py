"""Workers as processes of the host: for machines without Docker, and the embedded default.

Each worker leads a session of its own and writes to files of its own, so it outlives the agent; a
record in its folder lets the next agent process take it over. Its first process is watched by
pidfd. Starts stand in `spawn.py`, ends in `ends.py`.
"""

import asyncio
import functools
import logging
import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

from typing_extensions import override

from penstock_common.daemon_threads import DaemonThreads
from penstock_common.entropy import random_ratio
from penstock_common.messages import ImageRemoved, RuntimeKind
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes import log_files, proc_net
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.output import Cursor, Output, Skim, nothing, read_all
from penstock_node_agent.runtimes.process.ends import KILL_WAIT_S, Ends
from penstock_node_agent.runtimes.process.logs import ProcessOutput, follow_files, output_paths
from penstock_node_agent.runtimes.process.ports import PortPicker
from penstock_node_agent.runtimes.process.reaper import reap_orphans
from penstock_node_agent.runtimes.process.record import try_read_record
from penstock_node_agent.runtimes.process.spawn import ProcessSettings, Spawner
from penstock_node_agent.runtimes.process.table import boot_id
from penstock_node_agent.runtimes.process.worker import ProcessWorker, try_pidfd
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

_THREADS: Final = 4


class ProcessRuntime(Runtime):
    """Runs `entrypoint` + `command` as a process of the host."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._workers: dict[str, ProcessWorker] = {}
        self._spawning: dict[str, asyncio.Future[ProcessWorker]] = {}
        self._threads = DaemonThreads(_THREADS, "process-runtime")
        self._boot_id = boot_id()
        self._spawner = Spawner(settings, self._boot_id)
        self._ends = Ends(self._threads)
        offset = int(random_ratio() * len(settings.ports))
        self._ports = PortPicker(settings.ports, offset=offset)

    @property
    @override
    def kind(self) -> RuntimeKind:
        """`process`."""
        return "process"

    @property
    @override
    def proxied_ports(self) -> bool:
        """False: a connection is accepted by the worker itself."""
        return False

    @property
    @override
    def problem(self) -> RuntimeProblem | None:
        """None: the kernel does not go away."""
        return None

    @override
    async def open(self) -> None:
        """Take over what an earlier agent process left."""
        self._settings.folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(self._settings.folder.iterdir()):
            await self._adopt(folder)

    async def _adopt(self, folder: Path) -> None:
        record = try_read_record(folder)
        if record is None or record.pid is None:
            await self._ends.sweep(folder.name, None)
            shutil.rmtree(folder, ignore_errors=True)
            return
        worker = ProcessWorker(record, folder, pidfd=try_pidfd(record, self._boot_id))
        self._workers[record.worker_id] = worker
        logger.info(
            "worker adopted",
            extra={
                "action": "worker_adopted",
                "worker_id": record.worker_id,
                "running": worker.pidfd is not None,
            },
        )
        if worker.pidfd is None:
            try:
                async with asyncio.timeout(KILL_WAIT_S):
                    await self._ends.end_of(worker)
            except TimeoutError:
                logger.error(
                    "processes of an ended worker survive SIGKILL",
                    extra={"action": "sweep_failed", "worker_id": record.worker_id},
                )

    @override
    async def list_workers(self) -> tuple[Found, ...]:
        """Workers that have a folder."""
        return tuple(
            Found(
                worker_id,
                address=None if worker.exit else Started(self._settings.host, worker.record.port),
                exit=worker.exit,
                endpoint_id=worker.record.endpoint_id,
            )
            for worker_id, worker in self._workers.items()
        )

    @override
    async def start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Started:
        """Spawn it, unless it is there."""
        worker = self._workers.get(order.worker_id)
        if worker is not None and worker.exit is not None:
            raise StartFailedError(WorkerReason.EXITED, "it was started before and has ended")
        if worker is None:
            worker = await self._spawn(order)
        if on_progress is not None:
            on_progress(Progress.CREATED)
            on_progress(Progress.STARTED)
        return Started(self._settings.host, worker.record.port)

    async def _spawn(self, order: StartOrder) -> ProcessWorker:
        worker_id = order.worker_id
        spawning = self._spawning.get(worker_id)
        if spawning is None:
            port = self._pick_port()
            spawning = self._threads.run(lambda: self._spawner.spawn(order, port))
            self._spawning[worker_id] = spawning
            spawning.add_done_callback(functools.partial(self._on_spawned, worker_id))
        # Shielded: a process whose starter was cancelled must still be known here.
        return await asyncio.shield(spawning)

    def _on_spawned(self, worker_id: str, spawning: "asyncio.Future[ProcessWorker]") -> None:
        del self._spawning[worker_id]
        if not spawning.cancelled() and spawning.exception() is None:
            self._workers[worker_id] = spawning.result()

    def _pick_port(self) -> int:
        port = self._ports.try_pick({worker.record.port for worker in self._workers.values()})
        if port is None:
            ports = self._settings.ports
            raise StartFailedError(
                WorkerReason.START_FAILED, f"no port is free from {ports.start} to {ports.stop - 1}"
            )
        return port

    @override
    async def wait(self, worker_id: str) -> Exit:
        """Wait for its first process, then end what that left behind."""
        worker = self._workers.get(worker_id)
        if worker is None:
            raise RuntimeFailedError(f"there is no worker {worker_id}")
        return await self._ends.end_of(worker)

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """Signal all of its processes; its end is the end of them all."""
        if worker_id in self._spawning:
            await asyncio.wait({self._spawning[worker_id]})
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        if worker.exit is not None:
            return worker.exit
        return await self._ends.stop(worker, grace_s)

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """From its files."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return ()
        return await self._threads.run(lambda: log_files.tail(output_paths(worker.folder), lines))

    @override
    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        """From the open files of its processes and the kernel's table of the host's network."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        pids = await self._ends.living(worker)
        return await self._threads.run(lambda: proc_net.listeners_of_processes(pids))

    @override
    def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        """From its files; a run is named by the boot, the pid and the start of its process."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return nothing()
        record = worker.record
        run = f"{record.boot_id}.{record.pid}.{record.started_ticks}"
        return follow_files(
            lambda: ProcessOutput(worker.folder, run, cursor, skim),
            lambda: worker.exit is not None,
            self._threads.run,
        )

    @override
    async def remove(self, worker_id: str) -> None:
        """Delete its folder; it must have ended."""
        if worker_id in self._spawning:
            await asyncio.wait({self._spawning[worker_id]})
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        if worker.exit is None:
            raise RuntimeFailedError(f"worker {worker_id} has not ended")
        await self._threads.run(lambda: shutil.rmtree(worker.folder, ignore_errors=True))
        self._workers.pop(worker_id, None)

    @override
    async def prewarm(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        """There are no images."""
        raise StartFailedError(WorkerReason.NOT_RUNNABLE, "this node runs processes, not images")

    @override
    def keep_images(self, images: frozenset[str]) -> None:
        """There are none."""

    @override
    async def images(self) -> tuple[str, ...]:
        """None: it runs no images."""
        return ()

    @override
    async def tend(self) -> tuple[ImageRemoved, ...]:
        """Cut long logs, reap orphans; there are no images."""
        self._ends.tick()
        folders = [worker.folder for worker in self._workers.values()]
        paths = [path for folder in folders for path in output_paths(folder)]
        await self._threads.run(lambda: [log_files.cut_if_large(path) for path in paths])
        if self._settings.reap_orphans:
            reap_orphans({w.leader.pid for w in self._workers.values() if w.exit is None})
        return ()

    @override
    async def close(self) -> None:
        """Let go; workers run on."""
        if self._spawning:
            await asyncio.wait(self._spawning.values())
        for worker in self._workers.values():
            worker.close_pidfd()
        self._workers.clear()
        self._threads.close()
