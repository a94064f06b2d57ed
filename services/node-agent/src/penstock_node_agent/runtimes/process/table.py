"""The kernel's process table, as far as it tells which processes belong to a worker.

A process belongs to worker W when its environment at exec held PENSTOCK_WORKER_ID=W, or when it is
in the session that W's first process leads. A pid is no name: it is used again. A session id is
one as long as its leader's start time fits, since the kernel gives a number out again only when no
process has it as pid, group or session.
"""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
WORKER_VARIABLE: Final = "PENSTOCK_WORKER_ID"
_MARK: Final = WORKER_VARIABLE.encode() + b"="


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the table."""

    pid: int
    session: int
    #: clock ticks from boot to its start
    started_ticks: int
    #: it has ended and waits for its parent to ask
    zombie: bool
    #: worker id in its environment
    worker_id: str | None = None


@dataclass(frozen=True, slots=True)
class Leader:
    """A worker's first process."""

    pid: int
    started_ticks: int


def boot_id() -> str:
    """Names this boot of the machine."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def try_process(pid: int) -> Process | None:
    """The process with this pid, its environment not read; None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may itself hold spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return Process(pid, int(fields[3]), int(fields[19]), zombie=fields[0] in "ZX")


def snapshot() -> tuple[Process, ...]:
    """Every process but this one. Takes about 30 µs each: call it in a thread."""
    found = []
    for name in os.listdir(_PROC):  # noqa: PTH208 - half the time of building paths
        if not name.isdigit() or int(name) == os.getpid():
            continue
        process = try_process(int(name))
        if process is not None:
            found.append(process if process.zombie else _with_worker(process))
    return tuple(found)


def _with_worker(process: Process) -> Process:
    try:
        environment = (_PROC / str(process.pid) / "environ").read_bytes()
    except OSError:  # it ended, or it is another user's
        return process
    for variable in environment.split(b"\0") if _MARK in environment else ():
        if variable.startswith(_MARK):
            worker_id = variable.removeprefix(_MARK).decode(errors="replace")
            return Process(
                process.pid, process.session, process.started_ticks, False, worker_id=worker_id
            )
    return process


def members(table: Sequence[Process], worker_id: str, leader: Leader | None) -> list[Process]:
    """The living processes of a worker.

    Args:
        table: what `snapshot` gave.
        worker_id: as in their environment.
        leader: its first process; None = not known.
    """
    session = None
    if leader is not None:
        now = next((p for p in table if p.pid == leader.pid), None)
        if now is None or now.started_ticks == leader.started_ticks:
            session = leader.pid
    return [p for p in table if not p.zombie and (p.session == session or p.worker_id == worker_id)]


def send_signal(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it has ended meanwhile."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        now = try_process(process.pid)
        if now is not None and now.started_ticks == process.started_ticks:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
