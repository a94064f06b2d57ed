"""Which TCP ports are free on this machine."""

import contextlib
import random
import socket
from collections.abc import Collection
from typing import Final

#: Below those that the kernel gives to whoever names none (32768-60999 by default), and below the
#: workers': what is free stays so until its server binds it, and while that is started again.
_PORTS: Final = range(10_000, 20_000)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(_family(host)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str, *, but: Collection[int] = ()) -> int:
    """A port that is free now, and none of those in `but`.

    Raises:
        OSError: there is none.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if port not in but and is_free(host, port):
            return port
    raise OSError(f"no port of {_PORTS.start}-{_PORTS.stop - 1} is free on {host}")


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.2):
        return True
    return False


def can_bind(host: str) -> bool:
    """Whether this machine has that address."""
    try:
        with socket.socket(_family(host)) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
