"""What processes cost: CPU seconds and memory of process trees, from /proc (Linux, proc(5))."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
#: Fields of /proc/<pid>/stat, counted from behind the command's closing bracket.
_PARENT, _OWN_TIMES, _REAPED_TIMES = 1, slice(11, 13), slice(13, 15)


def _stat(pid: int) -> list[str]:
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all that descend from them now."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                children.setdefault(int(_stat(int(entry.name))[_PARENT]), []).append(
                    int(entry.name)
                )
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, ())
    return found


def cpu_s(roots: Iterable[int], *, reaped: bool = False) -> float:
    """CPU seconds that these process trees have used, user and system, all threads.

    Args:
        roots: pids.
        reaped: also count the children that have ended and were waited for.
    """
    ticks = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            fields = _stat(pid)
            ticks += sum(map(int, fields[_OWN_TIMES]))
            if reaped:
                ticks += sum(map(int, fields[_REAPED_TIMES]))
    return ticks * _TICK_S


def memory_bytes(roots: Iterable[int]) -> int:
    """Memory of these process trees; pages that several processes share count in proportion."""
    total = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def machine_busy_s() -> float:
    """CPU seconds that the whole machine has worked, or had taken from it (steal), since boot."""
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) * _TICK_S


class Neighbours:
    """How much of the machine others used while a benchmark ran: was it quiet?"""

    def __init__(self) -> None:
        self._busy_s, self._own_s = machine_busy_s(), cpu_s([os.getpid()], reaped=True)

    def used_s(self) -> float:
        """CPU seconds of all processes but ours since this object was made."""
        own_s = cpu_s([os.getpid()], reaped=True) - self._own_s
        return max(0.0, machine_busy_s() - self._busy_s - own_s)
