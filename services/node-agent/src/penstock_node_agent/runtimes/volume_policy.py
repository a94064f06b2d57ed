"""What a node's operator lets network volumes be, and what its kernel can mount."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILESYSTEMS: Final = Path("/proc/filesystems")
_MODULES: Final = Path("/lib/modules")


@dataclass(frozen=True, slots=True)
class VolumePolicy:
    """What this node's operator lets network volumes be."""

    #: directories of the host in which they may lie
    paths: tuple[str, ...] = ()
    #: by the kernel's NFS client
    nfs: bool = False
    #: by raw options of Docker's local driver, which can mount anything of the host
    driver_options: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """As in the node's record."""
        return ("nfs",) * self.nfs + ("driver_options",) * self.driver_options


def kernel_has_nfs() -> bool:
    """Whether this machine's kernel can mount NFS, now or after loading its module."""
    try:
        if "nfs" in _FILESYSTEMS.read_text().replace("nfs4", "nfs").split():
            return True
        folder = _MODULES / os.uname().release
        return any(
            "/nfs.ko" in (folder / name).read_text()
            for name in ("modules.dep", "modules.builtin")
            if (folder / name).exists()
        )
    except OSError:
        return False
