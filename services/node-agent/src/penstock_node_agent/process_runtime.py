"""Workers as processes of the host: for machines without Docker, and the embedded default.

Each worker leads a session of its own and writes to files of its own, so it outlives the agent; a
record in its folder lets the next agent process take it over. Its first process is watched by
pidfd. Ended means: no process of its session and none that carries its id is left (see
`process_table`).
"""

import asyncio
import errno
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, TypeVar

from typing_extensions import override

from penstock_common.daemon_threads import DaemonThreads
from penstock_common.messages import ImageRemoved, RuntimeKind
from penstock_common.states import WorkerReason
from penstock_node_agent import log_files, proc_net, process_table
from penstock_node_agent.health_answers import Listener
from penstock_node_agent.output import Cursor, Output, Skim, nothing, read_all
from penstock_node_agent.ports import PortPicker, is_free
from penstock_node_agent.process_logs import ProcessOutput, follow_files, output_paths
from penstock_node_agent.process_record import (
    ProcessRecord,
    try_read_record,
    write_record,
)
from penstock_node_agent.process_table import Leader, Process
from penstock_node_agent.pull_bytes import PulledBytes
from penstock_node_agent.reaper import reap_orphans
from penstock_node_agent.runtime import (
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
    StopFailedError,
)

logger = logging.getLogger(__name__)

#: After SIGKILL a process is gone in milliseconds, or hangs in the kernel.
KILL_WAIT_S: Final = 5.0
_THREADS: Final = 4
_SIGKILL_CODE: Final = 128 + signal.SIGKILL

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How process workers are run."""

    #: holds one folder per worker
    folder: Path
    #: address on which workers are reached
    host: str
    #: their working directory
    cwd: Path
    #: their PATH, behind the folder of this Python
    path: str
    #: their HOME
    home: str
    #: their ports are picked from here; best outside the kernel's range for outgoing connections
    ports: range
    #: this process is a subreaper with no other children: reap orphans
    reap_orphans: bool = False


@dataclass(slots=True, eq=False)
class _Worker:
    record: ProcessRecord
    folder: Path
    #: None = its first process had ended before this agent process came
    pidfd: int | None
    exit: Exit | None = None
    #: exit code of its first process, once that is reaped
    code: int | None = None
    #: a signal that ends it is ours
    stopping: bool = False
    #: held by whoever waits for its end
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def leader(self) -> Leader:
        assert self.record.pid is not None
        return Leader(self.record.pid, self.record.started_ticks)


class ProcessRuntime(Runtime):
    """Runs `entrypoint` + `command` as a process of the host."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._workers: dict[str, _Worker] = {}
        self._spawning: dict[str, asyncio.Future[_Worker]] = {}
        self._threads = DaemonThreads(_THREADS, "process-runtime")
        self._boot_id = process_table.boot_id()
        self._oom_kills = process_table.oom_kill_count()
        self._ports = PortPicker(settings.ports, offset=os.getpid())
        self._table: tuple[Process, ...] = ()
        self._scan = asyncio.Lock()
        self._scans_begun = self._scans_done = 0

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
            await self._sweep(folder.name, None)
            shutil.rmtree(folder, ignore_errors=True)
            return
        worker = _Worker(record, folder, pidfd=self._try_pidfd(record))
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
                    await self._end_of(worker)
            except TimeoutError:
                logger.error(
                    "processes of an ended worker survive SIGKILL",
                    extra={"action": "sweep_failed", "worker_id": record.worker_id},
                )

    def _try_pidfd(self, record: ProcessRecord) -> int | None:
        assert record.pid is not None
        if record.boot_id != self._boot_id:
            return None
        try:
            pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return None
        process = process_table.try_process(record.pid)
        if process is None or process.zombie or process.started_ticks != record.started_ticks:
            os.close(pidfd)
            return None
        return pidfd

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

    async def _spawn(self, order: StartOrder) -> _Worker:
        worker_id = order.worker_id
        spawning = self._spawning.get(worker_id)
        if spawning is None:
            port = self._pick_port()
            spawning = self._threads.run(lambda: self._spawn_blocking(order, port))
            self._spawning[worker_id] = spawning
            spawning.add_done_callback(functools.partial(self._on_spawned, worker_id))
        # Shielded: a process whose starter was cancelled must still be known here.
        return await asyncio.shield(spawning)

    def _on_spawned(self, worker_id: str, spawning: "asyncio.Future[_Worker]") -> None:
        del self._spawning[worker_id]
        if not spawning.cancelled() and spawning.exception() is None:
            self._workers[worker_id] = spawning.result()

    def _spawn_blocking(self, order: StartOrder, port: int) -> _Worker:
        folder = self._settings.folder / order.worker_id
        intent = ProcessRecord(
            worker_id=order.worker_id,
            endpoint_id=order.endpoint_id,
            port=port,
            boot_id=self._boot_id,
        )
        pid = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder, intent)
            with ExitStack() as stack:
                outputs = [stack.enter_context(path.open("ab")) for path in output_paths(folder)]
                pid = self._exec(order, port, outputs)
            pidfd = os.pidfd_open(pid)
            started = process_table.try_process(pid)
            assert started is not None  # it is our child and not reaped
            record = intent.model_copy(update={"pid": pid, "started_ticks": started.started_ticks})
            write_record(folder, record)
        except OSError as error:
            if pid is not None:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            shutil.rmtree(folder, ignore_errors=True)
            raise _start_failure(order, error) from error
        return _Worker(record, folder, pidfd)

    def _exec(self, order: StartOrder, port: int, outputs: Sequence[IO[bytes]]) -> int:
        process = subprocess.Popen(  # noqa: S603 - running the owner's command is the task
            [*order.entrypoint, *order.command],
            stdin=subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[1],
            cwd=self._settings.cwd,
            env=self._environment(order, port),
            start_new_session=True,
        )
        # Reaping is this module's from here on: keeps Popen from doing it, or complaining.
        process.returncode = 0
        return process.pid

    def _environment(self, order: StartOrder, port: int) -> dict[str, str]:
        here = Path(sys.executable).parent
        return {
            "PATH": f"{here}:{self._settings.path}",
            "HOME": self._settings.home,
            "LANG": "C.UTF-8",
            # Else the last lines of a worker that is killed stay in its buffer.
            "PYTHONUNBUFFERED": "1",
            **order.env,
            "PORT": str(port),
            "PENSTOCK_ENDPOINT_ID": order.endpoint_id,
            process_table.WORKER_VARIABLE: order.worker_id,
            # Empty hides all GPUs: those of the node belong to other workers.
            "CUDA_VISIBLE_DEVICES": ",".join(order.gpus),
        }

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
        return await self._end_of(worker)

    async def _end_of(self, worker: _Worker) -> Exit:
        async with worker.ending:
            if worker.exit is None:
                if worker.pidfd is not None:
                    await _readable(worker.pidfd)
                    worker.code = _reap(worker.leader.pid)
                    self._close_pidfd(worker)
                await self._sweep(worker.record.worker_id, worker.leader)
                worker.exit = self._judge(worker)
            return worker.exit

    def _judge(self, worker: _Worker) -> Exit:
        code = worker.code
        if worker.stopping or not code:
            return Exit(code)
        oom = code == _SIGKILL_CODE and process_table.oom_kill_count() > self._oom_kills
        return Exit(code, oom_killed=oom, port_taken=not is_free(worker.record.port))

    async def _sweep(self, worker_id: str, leader: Leader | None) -> None:
        """SIGKILL whatever belongs to the worker until nothing does."""
        pause_s = 0.002
        while await self._signal_all(worker_id, leader, signal.SIGKILL):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    async def _signal_all(
        self, worker_id: str, leader: Leader | None, number: signal.Signals
    ) -> int:
        living = process_table.members(await self._fresh_table(), worker_id, leader)
        for process in living:
            process_table.send_signal(process, number)
        return len(living)

    async def _fresh_table(self) -> tuple[Process, ...]:
        """A process table read after this call; those who ask at once share one reading."""
        needed = self._scans_begun + 1
        async with self._scan:
            if self._scans_done < needed:
                self._scans_begun += 1
                begun = self._scans_begun
                self._table = await self._in_thread(process_table.snapshot)
                self._scans_done = begun
            return self._table

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """Signal all of its processes; its end is the end of them all."""
        if worker_id in self._spawning:
            await asyncio.wait({self._spawning[worker_id]})
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        if worker.exit is None:
            worker.stopping = True
            try:
                await self._signal_all(worker_id, worker.leader, signal.SIGTERM)
                async with asyncio.timeout(grace_s):
                    return await self._end_of(worker)
            except TimeoutError:
                await self._kill(worker)
        return worker.exit

    async def _kill(self, worker: _Worker) -> None:
        worker_id = worker.record.worker_id
        try:
            async with asyncio.timeout(KILL_WAIT_S):
                await self._signal_all(worker_id, worker.leader, signal.SIGKILL)
                await self._end_of(worker)
        except TimeoutError:
            raise StopFailedError(f"a process of worker {worker_id} survives SIGKILL") from None

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """From its files."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return ()
        return await self._in_thread(lambda: log_files.tail(output_paths(worker.folder), lines))

    @override
    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        """From the open files of its processes and the kernel's table of the host's network."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        living = process_table.members(await self._fresh_table(), worker_id, worker.leader)
        pids = [process.pid for process in living]
        return await self._in_thread(lambda: proc_net.listeners_of_processes(pids))

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
        await self._in_thread(lambda: shutil.rmtree(worker.folder, ignore_errors=True))
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
        self._oom_kills = process_table.oom_kill_count()
        folders = [worker.folder for worker in self._workers.values()]
        paths = [path for folder in folders for path in output_paths(folder)]
        await self._in_thread(lambda: [log_files.cut_if_large(path) for path in paths])
        if self._settings.reap_orphans:
            reap_orphans({w.leader.pid for w in self._workers.values() if w.exit is None})
        return ()

    @override
    async def close(self) -> None:
        """Let go; workers run on."""
        if self._spawning:
            await asyncio.wait(self._spawning.values())
        for worker in self._workers.values():
            self._close_pidfd(worker)
        self._workers.clear()
        self._threads.close()

    def _close_pidfd(self, worker: _Worker) -> None:
        if worker.pidfd is not None:
            os.close(worker.pidfd)
            worker.pidfd = None

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await self._threads.run(work)


def _start_failure(order: StartOrder, error: OSError) -> StartFailedError:
    program = (*order.entrypoint, *order.command)[0]
    message = f"the node could not start '{program}': {error}"
    if error.errno == errno.ENOSPC:
        return StartFailedError(WorkerReason.NO_SPACE, message)
    if isinstance(error, FileNotFoundError) and error.filename == program:
        message = f"the program '{program}' does not exist on the node (looked for along its PATH)"
    if isinstance(error, PermissionError) and error.filename == program:
        message = f"the program '{program}' may not be executed"
    return StartFailedError(WorkerReason.START_FAILED, message)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, on_readable)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _reap(pid: int) -> int | None:
    """Exit code of an ended child, 128 + n for signal n; None when it is not a child."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if reaped == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
