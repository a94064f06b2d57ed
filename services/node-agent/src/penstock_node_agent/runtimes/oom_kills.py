"""What the kernel of this machine has killed for want of memory, whoever's it was.

The kernel counts a kill before it makes one. Whose process it was it tells by memory group, and a
container's group goes with the container: who ended with SIGKILL in a moment in which something was
killed for memory, and was killed by none of us, counts as that.
"""

from collections import deque
from pathlib import Path
from typing import Final

_COUNTERS: Final = Path("/proc/vmstat")


def oom_kill_count() -> int | None:
    """How many processes were killed for memory since boot; None = the kernel does not say."""
    for line in _COUNTERS.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return None


class OomKills:
    """Whether there was one lately."""

    def __init__(self, ticks: int) -> None:
        """Lately: within so many calls of `tick`."""
        self._counts = deque([oom_kill_count()], maxlen=ticks)

    def tick(self) -> None:
        """Some time has passed."""
        self._counts.append(oom_kill_count())

    @property
    def lately(self) -> bool | None:
        """Whether something was killed lately; None = the kernel does not say."""
        before, now = self._counts[0], oom_kill_count()
        return None if before is None or now is None else now > before
