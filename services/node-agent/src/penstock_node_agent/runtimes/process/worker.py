"""A process worker: its record, its folder, and its first process while that lives."""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from penstock_node_agent.runtimes.process.record import ProcessRecord
from penstock_node_agent.runtimes.process.table import Leader, try_process
from penstock_node_agent.runtimes.protocol import Exit


@dataclass(slots=True, eq=False)
class ProcessWorker:
    """A worker as this agent process holds it."""

    record: ProcessRecord
    folder: Path
    #: None = its first process had ended before this agent process came
    pidfd: int | None
    exit: Exit | None = None
    #: exit code of its first process, once that is reaped
    code: int | None = None
    #: a signal that ends it is ours
    stopping: bool = False
    #: held by whoever waits for its end
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def leader(self) -> Leader:
        """Its first process; it was spawned."""
        assert self.record.pid is not None
        return Leader(self.record.pid, self.record.started_ticks)

    def close_pidfd(self) -> None:
        """Watch its first process no longer."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def try_pidfd(record: ProcessRecord, boot_id: str) -> int | None:
    """The first process of a spawned worker, to be watched; None when it has ended."""
    assert record.pid is not None
    if record.boot_id != boot_id:
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    process = try_process(record.pid)
    if process is None or process.zombie or process.started_ticks != record.started_ticks:
        os.close(pidfd)
        return None
    return pidfd
