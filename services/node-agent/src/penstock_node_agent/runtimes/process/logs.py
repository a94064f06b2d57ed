"""Reads the log files of a process worker as they grow.

No thread waits: a look at the sizes says whether there is anything to read, at first every 10 ms,
ever more seldom while nothing is written. What is read is read in a thread.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from penstock_common.messages import OutputName
from penstock_node_agent.runtimes import log_files
from penstock_node_agent.runtimes.output import (
    Cursor,
    LineCutter,
    Output,
    OutputLine,
    OutputLost,
    Skim,
    read_all,
)

#: Name of the file of each output, in the worker's folder.
OUTPUT_FILES: Final[dict[OutputName, str]] = {"stdout": "stdout.log", "stderr": "stderr.log"}

_READ_BYTES: Final = 64 * 1024
#: Who is further behind than this only counts lines until it is near the end again; who skims, at
#: twice near.
_FAR_BYTES: Final = 4 * 1024 * 1024
_NEAR_BYTES: Final = 256 * 1024
_COUNT_BYTES: Final = 1024 * 1024
_MIN_PAUSE_S: Final = 0.01
_MAX_PAUSE_S: Final = 0.1

InThread = Callable[[Callable[[], Output]], "asyncio.Future[Output]"]


def output_paths(folder: Path) -> list[Path]:
    """The log files in a worker's folder, stdout first."""
    return [folder / name for name in OUTPUT_FILES.values()]


@dataclass(slots=True)
class _File:
    """One output being read."""

    stream: OutputName
    fd: int
    #: next byte to read
    offset: int
    cutter: LineCutter = field(default_factory=LineCutter)
    #: end of the last line that was given
    line_end: int = 0

    @property
    def grown(self) -> bool:
        return os.fstat(self.fd).st_size != self.offset


class ProcessOutput:
    """Both outputs of one run of a worker. Its methods block, but for `grown`."""

    def __init__(self, folder: Path, run: str, cursor: Cursor, skim: Skim = read_all) -> None:
        """Open the files in this folder.

        Args:
            folder: the worker's.
            run: names this run of the worker; a cursor of another one is void.
            cursor: as for `OutputFollower.follow`.
            skim: as for `OutputFollower.follow`; asked in the thread that reads.
        """
        self._run = run
        self._skim = skim
        begun = [int(at) for at in cursor[1:]] if cursor and cursor[0] == run else []
        self._files: list[_File] = []
        for n, (stream, path) in enumerate(zip(OUTPUT_FILES, output_paths(folder), strict=True)):
            fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            offset = begun[n] if begun else 0
            # Not behind a line break: the line was cut, and its rest goes with it.
            inside = offset > 0 and os.pread(fd, 1, offset - 1) not in (b"\n", b"\0", b"")
            cutter = LineCutter(in_long_line=inside)
            self._files.append(_File(stream, fd, offset, cutter, line_end=offset))

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file.fd)

    @property
    def grown(self) -> bool:
        """Whether there is anything to read."""
        return any(file.grown for file in self._files)

    def read(self) -> Output:
        """The next lines, perhaps none."""
        found: Output = []
        for file in self._files:
            self._read(file, found)
        return found

    def rest(self) -> Output:
        """Lines without a line break, once nobody writes any more."""
        found: Output = []
        for file in self._files:
            line = file.cutter.rest()
            if line is not None:
                file.line_end = file.offset
                found.append(OutputLine(None, file.stream, line, False, self._cursor()))
        return found

    def _cursor(self) -> Cursor:
        return (self._run, *(file.line_end for file in self._files))

    def _read(self, file: _File, found: Output) -> None:
        size = os.fstat(file.fd).st_size
        if size < file.offset:  # cut to nothing
            self._go_on_at(file, 0, found)
        data = self._read_whole(file, found)
        far_bytes = 2 * _NEAR_BYTES if self._skim(file.stream) else _FAR_BYTES
        if size - file.offset > far_bytes:
            self._skip(file, size - _NEAR_BYTES, found)
            data = self._read_whole(file, found)
        begin = file.offset

        def add(line: bytes, cut: bool, end: int) -> None:
            file.line_end = begin + end
            found.append(OutputLine(None, file.stream, line, cut, self._cursor()))

        file.cutter.feed(data, add)
        file.offset = begin + len(data)

    def _read_whole(self, file: _File, found: Output) -> bytes:
        """The next bytes, none of them of a hole that is punched meanwhile."""
        while True:
            first = log_files.first_byte(file.fd, file.offset)
            if first > file.offset:
                self._go_on_at(file, first, found)
            data = os.pread(file.fd, _READ_BYTES, file.offset)
            if log_files.first_byte(file.fd, file.offset) == file.offset or not data:
                return data

    def _go_on_at(self, file: _File, offset: int, found: Output) -> None:
        file.offset = file.line_end = offset
        file.cutter = LineCutter(in_long_line=offset > 0)
        found.append(OutputLost(None, self._cursor()))

    def _skip(self, file: _File, until: int, found: Output) -> None:
        """Count the lines up to this position, and go on behind them."""
        lines = 0
        last = b""
        while file.offset < until:
            if log_files.first_byte(file.fd, file.offset) > file.offset:
                break  # `_read_whole` says so
            data = os.pread(file.fd, min(_COUNT_BYTES, until - file.offset), file.offset)
            lines += data.count(b"\n")
            file.offset += len(data)
            last = data[-1:]
        inside = last != b"\n"
        file.line_end = file.offset
        file.cutter = LineCutter(in_long_line=inside)
        found.append(OutputLost(lines + inside, self._cursor()))


async def follow_files(
    open_output: Callable[[], ProcessOutput], ended: Callable[[], bool], in_thread: InThread
) -> AsyncGenerator[Output, None]:
    """What a worker writes to its files, until it has ended.

    Args:
        open_output: opens the files.
        ended: whether nothing of the worker runs any more.
        in_thread: does blocking work.
    """
    output = open_output()
    reading: asyncio.Future[Output] | None = None
    try:
        pause_s = _MIN_PAUSE_S
        while True:
            no_more = ended()  # asked before the look: what is written in between is found
            if output.grown:
                pause_s = _MIN_PAUSE_S
                reading = in_thread(output.read)
                found = await asyncio.shield(reading)
                if found:
                    yield found
                if not found and no_more and not output.grown:
                    break
            elif no_more:
                break
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.2, _MAX_PAUSE_S)
        if rest := output.rest():
            yield rest
    finally:
        if reading is not None and not reading.done():
            # A thread cannot be stopped, and must not read from what is another file by then.
            reading.add_done_callback(lambda _: output.close())
        else:
            output.close()
