"""Ports for process workers."""

import socket
from collections.abc import Collection


class PortPicker:
    """Walks round a range of ports and gives free ones.

    The range is best outside the kernel's own for outgoing connections (32768-60999 by default),
    so that only a server can take a port between the pick and the worker's bind.
    """

    def __init__(self, ports: range, *, offset: int) -> None:
        """Begin at `offset`, modulo the range's size.

        Agents of one host begin far apart: between the pick and the worker's bind a port looks
        free to the others.
        """
        self._ports = ports
        self._next = offset

    def try_pick(self, used: Collection[int]) -> int | None:
        """A port that any server can bind and that is not in `used`; None when there is none."""
        for _ in range(len(self._ports)):
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            if port not in used and _can_bind(port, reuse=False):
                return port
        return None


def is_free(port: int) -> bool:
    """Whether nobody listens on the port; connections of the past do not count."""
    return _can_bind(port, reuse=True)


def _can_bind(port: int, *, reuse: bool) -> bool:
    """Whether a server could bind the port on every address, with or without SO_REUSEADDR."""
    with socket.socket() as sock:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", port))
        except OSError:
            return False
        return True
