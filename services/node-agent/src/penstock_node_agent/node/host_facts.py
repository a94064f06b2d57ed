"""What the machine has: read from /proc and the disk."""

import os
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine at one instant."""

    hostname: str
    cpu_count: int
    memory_bytes: int
    #: free for workers, on the disk of the agent's data
    disk_free_bytes: int
    #: size of that disk; None = not known
    disk_bytes: int | None = None
    #: what new processes can have; None = not known
    memory_available_bytes: int | None = None
    #: processes that run or want to, mean of a minute; None = not known
    load_1m: float | None = None


def read_host_facts(folder: Path) -> HostFacts:
    """Facts of this machine; `folder` lies on the disk that counts."""
    meminfo, disk = Path("/proc/meminfo").read_text(), shutil.disk_usage(folder)
    return HostFacts(
        hostname=socket.gethostname(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=_meminfo_bytes(meminfo, "MemTotal") or 0,
        disk_free_bytes=disk.free,
        disk_bytes=disk.total,
        memory_available_bytes=_meminfo_bytes(meminfo, "MemAvailable"),
        load_1m=round(os.getloadavg()[0], 2),
    )


def _meminfo_bytes(meminfo: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
