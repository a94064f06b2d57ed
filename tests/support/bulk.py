"""Bodies of gigabytes from and to plain sockets: a worker and a client that keep nothing."""

import socket
import threading
from typing import Final

_PIECE: Final = bytes(1 << 20)
_END: Final = b"\r\n\r\n"


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """A message's head, and what came of its body with it."""
    data = b""
    while _END not in data:
        piece = sock.recv(65_536)
        if not piece:
            raise ConnectionError(f"closed after {data!r}")
        data += piece
    head, _, rest = data.partition(_END)
    return head, rest


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _take(sock: socket.socket, n_bytes: int) -> None:
    buffer = bytearray(1 << 20)
    while n_bytes:
        n = sock.recv_into(buffer, min(len(buffer), n_bytes))
        if not n:
            raise ConnectionError(f"closed {n_bytes} bytes before the end")
        n_bytes -= n


def _give(sock: socket.socket, n_bytes: int) -> None:
    for _ in range(n_bytes // len(_PIECE)):
        sock.sendall(_PIECE)
    sock.sendall(_PIECE[: n_bytes % len(_PIECE)])


class BulkWorker:
    """GET /<n> answers n bytes, POST takes what comes and says how much; one thread a connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _serve(sock: socket.socket) -> None:
        with sock:
            try:
                while True:
                    head, begun = _read_head(sock)
                    length = _length(head)
                    _take(sock, length - len(begun))
                    line = head.split(b"\r\n", 1)[0].split(b" ")
                    n_bytes = int(line[1].rpartition(b"/")[2] or 0) if line[0] == b"GET" else 0
                    body = b"" if n_bytes else b"%d" % length
                    size = n_bytes or len(body)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
                    _give(sock, n_bytes)
            except (ConnectionError, OSError):
                return  # the router closed it


def upload(port: int, path: str, n_bytes: int) -> int:
    """Send so many bytes; gives how many the worker says that it took."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {n_bytes}\r\n\r\n"
        sock.sendall(head.encode())
        _give(sock, n_bytes)
        answer, body = _read_head(sock)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        while len(body) < _length(answer):
            body += sock.recv(100)
        return int(body)


def download(port: int, path: str) -> int:
    """Take what comes; gives how many bytes."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, begun = _read_head(sock)
        assert head.startswith(b"HTTP/1.1 200"), head
        _take(sock, _length(head) - len(begun))
        return _length(head)
