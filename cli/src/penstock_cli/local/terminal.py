"""Shows lines to a person, and waits for no terminal.

A terminal that was stopped (Ctrl-S), or a pager that is not read on, takes no bytes. Would the
supervisor wait for it, it would read its children's output no more, and soon they would all wait.
"""

import contextlib
import os
import queue
import threading
from typing import Final

#: So many lines wait for the terminal; later ones are dropped.
MOST_LINES: Final = 10_000
_CLOSE_S: Final = 1.0


class Terminal:
    """Writes lines to a file descriptor from a thread; raises nothing."""

    def __init__(self, fd: int, *, most_lines: int = MOST_LINES) -> None:
        """Begin the thread, a daemon.

        Args:
            fd: of the terminal, pipe or file; stays open.
            most_lines: how many may wait.
        """
        self._fd = fd
        self._lines: queue.Queue[str | None] = queue.Queue(most_lines)
        self._n_dropped = 0
        self._thread = threading.Thread(target=self._serve, name="terminal", daemon=True)
        self._thread.start()

    def show(self, line: str) -> None:
        """Have the line written after those before it, or drop it. From one thread only."""
        try:
            if self._n_dropped:
                self._lines.put_nowait(f"{self._n_dropped} lines were not shown here")
                self._n_dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._n_dropped += 1

    def close(self) -> None:
        """Wait a moment for what is not written yet."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(_CLOSE_S)

    def _serve(self) -> None:
        while (line := self._lines.get()) is not None:
            data = f"{line}\n".encode(errors="replace")
            with contextlib.suppress(OSError):  # it may be gone; the log files are not
                # Not through `sys.stderr`: its lock would be held while the terminal takes nothing.
                while data:
                    data = data[os.write(self._fd, data) :]
