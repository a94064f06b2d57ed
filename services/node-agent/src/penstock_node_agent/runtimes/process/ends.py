"""Ends of process workers: waiting for them, and bringing them about.

Ended means: no process of its session and none that carries its id is left (see `table.py`).
"""

import asyncio
import os
import signal
from typing import Final

from penstock_common.daemon_threads import DaemonThreads
from penstock_node_agent.runtimes.oom_kills import OomKills
from penstock_node_agent.runtimes.process import table as process_table
from penstock_node_agent.runtimes.process.ports import is_free
from penstock_node_agent.runtimes.process.table import Leader, Process
from penstock_node_agent.runtimes.process.worker import ProcessWorker
from penstock_node_agent.runtimes.protocol import Exit, StopFailedError

#: After SIGKILL a process is gone in milliseconds, or hangs in the kernel.
KILL_WAIT_S: Final = 5.0
#: From the kernel's kill to its word that the process has ended.
_OOM_TICKS: Final = 3
_SIGKILL_CODE: Final = 128 + signal.SIGKILL


class Ends:
    """Sees workers' processes end, or ends them."""

    def __init__(self, threads: DaemonThreads) -> None:
        """Nothing is read yet.

        Args:
            threads: where the process table is read.
        """
        self._threads = threads
        self._oom_kills = OomKills(_OOM_TICKS)
        self._table: tuple[Process, ...] = ()
        self._scan = asyncio.Lock()
        self._scans_begun = self._scans_done = 0

    def tick(self) -> None:
        """About a second has passed."""
        self._oom_kills.tick()

    async def end_of(self, worker: ProcessWorker) -> Exit:
        """Wait for its first process, then end what that left behind."""
        async with worker.ending:
            if worker.exit is None:
                if worker.pidfd is not None:
                    await _readable(worker.pidfd)
                    worker.code = _reap(worker.leader.pid)
                    worker.close_pidfd()
                await self.sweep(worker.record.worker_id, worker.leader)
                worker.exit = self._judge(worker)
            return worker.exit

    async def stop(self, worker: ProcessWorker, grace_s: float) -> Exit:
        """Signal all of its processes; its end is the end of them all.

        Raises:
            StopFailedError: one of them survives SIGKILL.
        """
        worker.stopping = True
        try:
            await self._signal_all(worker.record.worker_id, worker.leader, signal.SIGTERM)
            async with asyncio.timeout(grace_s):
                return await self.end_of(worker)
        except TimeoutError:
            return await self._kill(worker)

    async def _kill(self, worker: ProcessWorker) -> Exit:
        worker_id = worker.record.worker_id
        try:
            async with asyncio.timeout(KILL_WAIT_S):
                await self._signal_all(worker_id, worker.leader, signal.SIGKILL)
                return await self.end_of(worker)
        except TimeoutError:
            raise StopFailedError(f"a process of worker {worker_id} survives SIGKILL") from None

    async def sweep(self, worker_id: str, leader: Leader | None) -> None:
        """SIGKILL whatever belongs to the worker until nothing does."""
        pause_s = 0.002
        while await self._signal_all(worker_id, leader, signal.SIGKILL):
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    def _judge(self, worker: ProcessWorker) -> Exit:
        code = worker.code
        if worker.stopping or not code:
            return Exit(code)
        oom = code == _SIGKILL_CODE and bool(self._oom_kills.lately)
        return Exit(code, oom_killed=oom, port_taken=not is_free(worker.record.port))

    async def _signal_all(
        self, worker_id: str, leader: Leader | None, number: signal.Signals
    ) -> int:
        living = process_table.members(await self._fresh_table(), worker_id, leader)
        for process in living:
            process_table.send_signal(process, number)
        return len(living)

    async def living(self, worker: ProcessWorker) -> tuple[int, ...]:
        """The pids of a worker's processes."""
        table = await self._fresh_table()
        found = process_table.members(table, worker.record.worker_id, worker.leader)
        return tuple(process.pid for process in found)

    async def _fresh_table(self) -> tuple[Process, ...]:
        """A process table read after this call; those who ask at once share one reading."""
        needed = self._scans_begun + 1
        async with self._scan:
            if self._scans_done < needed:
                self._scans_begun += 1
                begun = self._scans_begun
                self._table = await self._threads.run(process_table.snapshot)
                self._scans_done = begun
            return self._table


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
