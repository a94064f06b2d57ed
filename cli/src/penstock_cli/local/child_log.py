"""The log file of one child: bounded, and never in the way of the child.

A child writes to a pipe that the supervisor reads. Would a full disk stop the reading, the child
would stop as well, or die of SIGPIPE: so a line that cannot be written is dropped, and how many
were is written as soon as one can be again.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from penstock_common.clock import Clock

#: A file that has grown to this is kept as `<name>.log.1`, in the place of the one before.
LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024


class ChildLog:
    """Writes the lines of one child; raises nothing."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_trouble: Callable[[str], None],
        *,
        limit_bytes: int = LOG_LIMIT_BYTES,
    ) -> None:
        """Append to this file, which is made when the first line comes.

        Args:
            path: of the file; its folder exists.
            clock: stamps the line that says how many were dropped.
            on_trouble: is told, once each time, that lines begin to be dropped, and why.
            limit_bytes: size at which the file is put aside.
        """
        self._path = path
        self._clock = clock
        self._on_trouble = on_trouble
        self._limit_bytes = limit_bytes
        self._file: IO[bytes] | None = None
        self._n_bytes = 0
        self._n_dropped = 0
        #: the disk was full in the middle of a line
        self._torn = False

    def write(self, line: bytes) -> None:
        """Write one line, with its end, or drop it."""
        try:
            if self._n_dropped:
                self._put(self._dropped_line())
                self._n_dropped = 0
            self._put(line)
        except OSError as error:
            self.close()
            if not self._n_dropped:
                self._on_trouble(f"{self._path} cannot be written, lines are dropped: {error}")
            self._n_dropped += 1

    def close(self) -> None:
        """Let go of the file; a later line opens it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # some file systems tell a failed write only now
                self._file.close()
            self._file = None

    def _put(self, line: bytes) -> None:
        file = self._opened()
        if self._torn:
            line = b"\n" + line
        n_written = file.write(line)
        self._n_bytes += n_written
        self._torn = n_written < len(line) and (n_written > 0 or self._torn)
        if n_written < len(line):
            raise OSError("the disk took a part of a line")

    def _opened(self) -> IO[bytes]:
        if self._file is not None and self._n_bytes >= self._limit_bytes:
            self.close()
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_size >= self._limit_bytes:
                    self._path.replace(self._path.with_name(self._path.name + ".1"))
            # Unbuffered: what is left in a buffer would be lost with this process.
            self._file = self._path.open("ab", buffering=0)
            self._n_bytes = self._file.tell()
        return self._file

    def _dropped_line(self) -> bytes:
        record = {
            "ts": self._clock.utc().isoformat(timespec="milliseconds"),
            "level": "warning",
            "service": "up",
            "message": "lines of this log could not be written",
            "dropped": self._n_dropped,
        }
        return json.dumps(record).encode() + b"\n"
