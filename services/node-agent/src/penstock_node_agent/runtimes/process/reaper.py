"""Orphans of workers become children of this process, so that they end and are reaped here.

A process that a worker forks and leaves behind would go to init, out of sight. As subreaper the
agent inherits it, and reaps it when it ends.
"""

import ctypes
import os
from collections.abc import Collection
from typing import Final

from penstock_common.errors import PenstockError

_PR_SET_CHILD_SUBREAPER: Final = 36


class SubreaperRefusedError(PenstockError):
    """The kernel does not let this process inherit its workers' orphans."""


def become_subreaper() -> None:
    """Inherit the orphans among all later descendants of this process (prctl(2)).

    Raises:
        SubreaperRefusedError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SubreaperRefusedError(os.strerror(ctypes.get_errno()))


def reap_orphans(keep: Collection[int]) -> int:
    """Reap every ended child except `keep`, and say how many there were.

    Only for a process that starts no children but those in `keep`: it would take the exit codes
    of others away. Stops at an ended child of `keep`, which its owner reaps first.
    """
    reaped = 0
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no children at all
            return reaped
        if ended is None or ended.si_pid in keep:
            return reaped
        os.waitpid(ended.si_pid, os.WNOHANG)
        reaped += 1
