"""How many files, connections included, this process may have open.

The soft limit is usually 1,024, for the sake of programs that use select(2); the hard one is what an
administrator means (systemd.exec(5), "LimitNOFILE="). A service that serves connections takes the
hard one for itself; one that starts other people's programs leaves the limit to them.
"""

import resource
from typing import Final

#: Taken where the hard limit is "infinity"; the kernel's own default for `fs.nr_open`.
MOST: Final = 1_048_576


def raise_open_files() -> int:
    """Raise the soft limit to the hard one; gives the limit that counts from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft not in (resource.RLIM_INFINITY, wanted) and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return open_files_limit()


def open_files_limit() -> int:
    """The soft limit, at most `MOST`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)
