"""Where processes listen for TCP connections, from the kernel's tables in `/proc` (Linux).

`/proc/<pid>/net/tcp` shows the sockets of the network that the process lives in, whoever reads it.
A read takes about a tenth of a millisecond, and blocks: call it in a thread.
"""

import ipaddress
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock_node_agent.runtimes.listener import Listener

_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"
#: Docker's own name server in a container's network.
_DOCKER_DNS: Final = "127.0.0.11"
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket that accepts connections."""

    listener: Listener
    inode: int


def parse_sockets(table: str) -> tuple[Socket, ...]:
    """The listening sockets in the text of `/proc/…/net/tcp` or `tcp6`."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        found.append(Socket(Listener(_host(address), int(port, 16)), int(fields[9])))
    return tuple(found)


def _host(address: str) -> str:
    """The address that the kernel wrote: words of 32 bits, each in the machine's byte order."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    host = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return str(mapped or host)


def listeners_of_container(pid: int, container_id: str) -> tuple[Listener, ...] | None:
    """Where the container listens that has this process and a network of its own.

    None: this machine shows no such process of the container, as when the agent is itself in a
    container that does not see the host's processes, or the engine is on another machine.
    """
    folder = _PROC / str(pid)
    try:
        # A pid that is not of our own process table could be anybody's here.
        if container_id not in (folder / "cgroup").read_text():
            return None
        sockets = _sockets(folder)
    except OSError:
        return None
    return tuple(s.listener for s in sockets if s.listener.host != _DOCKER_DNS)


def listeners_of_processes(pids: Iterable[int]) -> tuple[Listener, ...] | None:
    """Where these processes listen, which share our network; None when that cannot be read."""
    inodes: set[int] = set()
    for pid in pids:
        inodes |= _inodes(_PROC / str(pid) / "fd")
    try:
        sockets = _sockets(_PROC / "self")
    except OSError:
        return None
    return tuple(s.listener for s in sockets if s.inode in inodes)


def _sockets(folder: Path) -> tuple[Socket, ...]:
    tables = [folder / "net/tcp"]
    if (six := folder / "net/tcp6").exists():  # not where IPv6 is switched off
        tables.append(six)
    return tuple(socket for table in tables for socket in parse_sockets(table.read_text()))


def _inodes(folder: Path) -> set[int]:
    """The sockets among the open files; none of a process that has ended, or is another user's."""
    inodes = set()
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - half the time of building paths
            try:
                match = _SOCKET.fullmatch(os.readlink(folder / name))  # noqa: PTH115 - no path
            except FileNotFoundError:  # closed meanwhile
                continue
            if match:
                inodes.add(int(match[1]))
    except OSError:
        return inodes
    return inodes
