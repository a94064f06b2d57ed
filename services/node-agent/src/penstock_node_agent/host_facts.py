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


def read_host_facts(folder: Path) -> HostFacts:
    """Facts of this machine; `folder` lies on the disk that counts."""
    return HostFacts(
        hostname=socket.gethostname(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(Path("/proc/meminfo").read_text()),
        disk_free_bytes=shutil.disk_usage(folder).free,
    )


def _memory_bytes(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
