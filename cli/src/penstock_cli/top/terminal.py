"""The terminal that `penstock top` draws on: keys, resizes, and leaving it as it was."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

#: These end a process at once; here they end the view, so that the terminal is given back.
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)
_READ_BYTES: Final = 1024


class Terminal:
    """A screen of its own on a terminal; see `open_terminal`."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        width, height = self._console.size
        return width, height

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines in the place of those that are shown."""
        self._live.update(Group(*lines), refresh=True)


@contextlib.contextmanager
def open_terminal(
    console: Console, on_keys: Callable[[bytes], None], on_resize: Callable[[], None]
) -> Iterator[Terminal]:
    """A terminal of whose keys and sizes the running loop is told; as it was, afterwards.

    What ends the process politely (SIGTERM, a terminal that is gone) cancels the task that is
    within. Ctrl-Z does nothing, as a shell could not be shown on this screen.

    Args:
        console: on stdout.
        on_keys: is given what the terminal sends; nothing where stdin is none.
        on_resize: is told of another size.
    """
    loop = asyncio.get_running_loop()
    within = asyncio.current_task()
    assert within is not None
    for number in _ENDS:
        loop.add_signal_handler(number, within.cancel)
    loop.add_signal_handler(signal.SIGWINCH, on_resize)
    stops = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        with (
            _keys(loop, on_keys),
            Live(console=console, auto_refresh=False, screen=True) as live,
        ):
            yield Terminal(console, live)
    finally:
        signal.signal(signal.SIGTSTP, stops)
        for number in (*_ENDS, signal.SIGWINCH):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _keys(loop: asyncio.AbstractEventLoop, on_keys: Callable[[bytes], None]) -> Iterator[None]:
    """Each key at once and without an echo; Ctrl-C stays what it is."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(descriptor)

    def read() -> None:
        data = os.read(descriptor, _READ_BYTES)
        if data:
            on_keys(data)
        else:
            loop.remove_reader(descriptor)  # nobody types any more

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        # What was typed for this view is not for the shell behind it.
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
