"""Whether an engine's disk is full."""

import os
from datetime import datetime, timedelta
from typing import Final

from penstock_common.clock import Clock
from penstock_node_agent.runtimes.protocol import RuntimeProblem

#: A disk with less than this left, or this part of it if that is less, takes no new worker.
_LEAST_FREE_BYTES: Final = 1_000_000_000
_LEAST_FREE_RATIO: Final = 0.05
#: How long the engine's own word counts where its disk cannot be measured from here.
_REFUSAL_COUNTS: Final = timedelta(seconds=60)


class DiskRoom:
    """What is known of the room on the disk that holds images and containers."""

    def __init__(self, clock: Clock, *, local: bool) -> None:
        """Nothing known yet; `local`: the engine runs on this machine."""
        self._clock = clock
        self._local = local
        self._refused_at: datetime | None = None
        self._problem: RuntimeProblem | None = None

    @property
    def problem(self) -> RuntimeProblem | None:
        """That the disk is full, and since when; None = not known to be."""
        return self._problem

    def note_refusal(self) -> None:
        """The engine could not write: no space left on device."""
        self._refused_at = self._clock.utc()
        if self._problem is None:
            self._problem = RuntimeProblem("disk full", self._refused_at, full=True)

    def look(self, root_dir: str) -> None:
        """Measure the disk; `root_dir`: where the engine keeps its things, as it says itself."""
        now = self._clock.utc()
        free = _free(root_dir) if self._local else None
        if free is None:
            refused_at = self._refused_at
            full, where = refused_at is not None and now - refused_at < _REFUSAL_COUNTS, ""
        else:
            full, where = free[0] < least_free(free[1]), f": {free[0] / 1e9:.1f} GB left"
            where += f" below {root_dir}"
        if not full:
            self._problem = None
            return
        since = self._problem.since if self._problem is not None else now
        self._problem = RuntimeProblem(f"disk full{where}", since, full=True)


def least_free(total_bytes: int) -> float:
    """Bytes that must be left on a disk of this size for new workers."""
    return min(_LEAST_FREE_BYTES, _LEAST_FREE_RATIO * total_bytes)


def _free(root_dir: str) -> tuple[int, int] | None:
    """(bytes left, bytes in all); None where this process does not see the folder."""
    try:
        found = os.statvfs(root_dir)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
