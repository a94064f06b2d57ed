"""A command on a pseudo-terminal, driven as a person would: look, type, press Ctrl-C."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from penstock_common.clock import SystemClock

CLOCK = SystemClock()
_CONTROL = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()].|[@-Z=>])")


class TerminalRun:
    """A process whose stdin, stdout and stderr are one terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, slave: int) -> None:
        self.process = process
        self._master = master
        self._slave = slave
        self._raw = b""
        self._come = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # Linux says so when the last process has closed it
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._raw += data
        self._come.set()

    @property
    def raw(self) -> str:
        """All that came, control sequences included."""
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that came, without them."""
        return _CONTROL.sub("", self.raw).replace("\r\n", "\n")

    @property
    def screen(self) -> str:
        """The last frame of a program that draws on a screen of its own."""
        return _CONTROL.sub("", self.raw.rpartition("\x1b[H")[2]).replace("\r\n", "\n")

    async def until(self, seen: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
        """Wait until something was seen."""
        try:
            async with asyncio.timeout(within_s):
                while not seen():
                    self._come.clear()
                    await self._come.wait()
        except TimeoutError:
            raise AssertionError(f"not seen: {what}\n{self.text[-3000:]}") from None

    async def sees(self, part: str, within_s: float = 60.0) -> None:
        """Wait until this text has come."""
        await self.until(lambda: part in self.text, part, within_s)

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._master, keys.encode())

    def resize(self, lines: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def settings(self) -> list[Any]:
        """How the terminal is set: echo, lines, keys."""
        return termios.tcgetattr(self._slave)

    async def ends(self, within_s: float = 60.0) -> int:
        """The exit code, once it has ended."""
        try:
            async with asyncio.timeout(within_s):
                return await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"it goes on\n{self.text[-3000:]}") from None


def _without_size(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the size of another terminal, which would go before this one's."""
    return {name: value for name, value in env.items() if name not in {"COLUMNS", "LINES"}}


def _take_the_terminal() -> None:
    """Have it as the session's own, so that Ctrl-C is heard.

    What a shell started in the background ignores Ctrl-C, and so does what that starts.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.asynccontextmanager
async def on_terminal(
    *argv: str, env: Mapping[str, str], cwd: Path, lines: int = 30, columns: int = 120
) -> AsyncIterator[TerminalRun]:
    """Run a command on a terminal of this size; it is killed at the end, if it still runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_the_terminal,
        env=_without_size(env) | {"TERM": "xterm-256color"},
        cwd=cwd,
    )
    run = TerminalRun(process, master, slave)
    try:
        yield run
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        os.close(slave)
