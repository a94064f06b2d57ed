"""Processes that a benchmark starts, and ends by pid whatever happens."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _of_our_own() -> None:
    """In the child: no Ctrl-C of the terminal's, but an end when the benchmark is killed."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def find_program(name: str, *folders: Path) -> str | None:
    """Path of a program: in these folders first, then on PATH and where Debian puts daemons."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"])
    return shutil.which(name, path=path)


class ChildError(Exception):
    """A process did not start."""


class Children:
    """Started processes; leaving the context ends them all."""

    def __init__(self, folder: Path) -> None:
        """No processes yet.

        Args:
            folder: exists; their output goes to `<name>.log` there.
        """
        self.folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(self._end(process) for process in self._running.values()))

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        within_s: float = 15,
    ) -> int:
        """Start a process; gives its pid once it accepts connections.

        Args:
            name: for its log; used once.
            argv: command line.
            port: on 127.0.0.1, waited for; None = nothing is waited for.
            env: added to our environment.
            within_s: how long it may take to listen.

        Raises:
            ChildError: it ended, or did not listen in time; holds the end of its log.
        """
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                preexec_fn=_of_our_own,
            )
        self._running[name] = process
        if port is not None:
            await self._listening(name, port, within_s)
        return process.pid

    async def _listening(self, name: str, port: int, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._running[name].returncode is None:
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        return
                    await asyncio.sleep(0.02)
        tail = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
        raise ChildError(f"{name} does not listen on port {port}: {tail}")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:
            process.kill()
            await process.wait()


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
