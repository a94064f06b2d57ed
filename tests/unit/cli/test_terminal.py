"""Lines for a terminal that takes none for a while."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from penstock_cli.local.terminal import Terminal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def read_lines(reading: int, last: str) -> list[str]:
    """All lines up to this one."""
    with os.fdopen(os.dup(reading)) as file:
        lines = []
        for line in file:
            lines.append(line.rstrip("\n"))
            if lines[-1] == last:
                return lines
    raise AssertionError("the pipe was closed")


def test_lines_come_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    terminal = Terminal(writing)
    shown = [f"line {n} \N{SNOWMAN}" for n in range(100)]
    for line in shown:
        terminal.show(line)
    terminal.close()
    assert read_lines(reading, shown[-1]) == shown


def stop_taking(writing: int) -> int:
    """Fill the pipe, as a terminal does that was stopped; gives with how many bytes."""
    os.set_blocking(writing, False)
    n_bytes = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            n_bytes += os.write(writing, bytes(1))
    os.set_blocking(writing, True)
    return n_bytes


def test_a_stopped_terminal_holds_nobody_up_and_is_told_what_it_missed(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    filled = stop_taking(writing)
    terminal = Terminal(writing, most_lines=10)
    for n in range(100):
        terminal.show(f"line {n}")
    while filled:  # it takes bytes again
        filled -= len(os.read(reading, filled))
    told = ""
    while "were not shown here" not in told:
        terminal.show("again")
        told += os.read(reading, 1 << 16).decode()
    shown = [line for line in told.splitlines() if line.startswith("line ")]
    assert shown == [f"line {n}" for n in range(len(shown))]
    assert 10 <= len(shown) <= 11  # one may have been in its hand
    terminal.close()


def test_a_terminal_that_is_gone_is_no_matter() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    terminal = Terminal(writing)
    terminal.show("nobody reads this")
    terminal.close()
    os.close(writing)
