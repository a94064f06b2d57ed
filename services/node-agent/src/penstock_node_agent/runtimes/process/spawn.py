"""Starts processes of workers: their folder, their environment, and what a failed start means."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.process import table as process_table
from penstock_node_agent.runtimes.process.logs import output_paths
from penstock_node_agent.runtimes.process.record import ProcessRecord, write_record
from penstock_node_agent.runtimes.process.worker import ProcessWorker
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder


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


class Spawner:
    """Makes the processes of workers."""

    def __init__(self, settings: ProcessSettings, boot_id: str) -> None:
        """A spawner of this boot of the machine."""
        self._settings = settings
        self._boot_id = boot_id

    def spawn(self, order: StartOrder, port: int) -> ProcessWorker:
        """Start the worker's process; blocks.

        Args:
            order: what to start.
            port: where it is to listen.

        Raises:
            StartFailedError: the node could not start it; nothing of it is left.
        """
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
        return ProcessWorker(record, folder, pidfd)

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
