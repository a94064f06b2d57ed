"""TCP ports for tests that run beside others."""

import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from pathlib import Path
from typing import Final

#: The kernel gives none of these to who asks for any port, or connects from any
#: (`ip_local_port_range` begins above), and process workers take theirs above as well.
_PORTS: Final = range(10_000, 20_000)
#: So many are kept; a test whose port is given back has ended long ago.
_KEPT: Final = 200

_ours: deque[int] = deque()
_locks = -1


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no other test is given meanwhile.

    A test may leave it closed, or listen there later and again. One that the kernel had chosen could be
    somebody else's by then, and a client that keeps trying to connect there could even meet itself.
    """
    while True:
        port = random.SystemRandom().choice(_PORTS)  # hypothesis seeds the others alike everywhere
        if port not in _ours and _take(port):
            break
    _ours.append(port)
    if len(_ours) > _KEPT:
        fcntl.lockf(_locks, fcntl.LOCK_UN, 1, _ours.popleft())
    return port


def _take(port: int) -> bool:
    """Lock it against other processes of tests, if it is free; the locks end with this process."""
    global _locks
    if _locks < 0:
        path = Path(tempfile.gettempdir()) / f"penstock-test-ports-{os.getuid()}"
        _locks = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            fcntl.lockf(_locks, fcntl.LOCK_UN, 1, port)
            return False
    return True
