"""Bodies of 2 GiB each way through a router process whose memory stays as it was."""

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.router_world import running_world, until
from tests.support.nats_server import NatsServer
from tests.support.router_process import router_process

pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.timeout(180)]
MIB = 1 << 20
SIZE = 2048 * MIB
PIECE = bytes(MIB)
WAIT_S = 60.0


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """(head, what came of the body with it)."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        assert piece, "the connection ended within a head"
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def read_body(sock: socket.socket, length: int) -> None:
    buffer = memoryview(bytearray(MIB))
    while length:
        n = sock.recv_into(buffer, min(length, MIB))
        assert n, f"the connection ended {length} bytes early"
        length -= n


def send_body(sock: socket.socket, length: int) -> None:
    while length:
        n = sock.send(PIECE[: min(length, MIB)])
        length -= n


def serve(listener: socket.socket) -> None:
    """One request on one connection: takes what is sent, or sends as much as was asked for."""
    sock, _ = listener.accept()
    with sock:
        sock.settimeout(WAIT_S)
        head, rest = read_head(sock)
        found = re.search(rb"Content-Length: (\d+)", head)
        if found:
            read_body(sock, int(found[1]) - len(rest))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE
            )
            send_body(sock, SIZE)


@contextmanager
def worker() -> Iterator[int]:
    """A worker for one request; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(WAIT_S)
        assert not thread.is_alive()


def upload(sock: socket.socket) -> None:
    sock.sendall(
        b"POST /echo/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % SIZE
    )
    send_body(sock, SIZE)
    assert read_head(sock)[0].startswith(b"HTTP/1.1 200 ")


def download(sock: socket.socket) -> None:
    sock.sendall(b"GET /echo/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    head, rest = read_head(sock)
    assert head.startswith(b"HTTP/1.1 200 ")
    read_body(sock, SIZE - len(rest))


def peak_bytes(pid: int) -> int:
    """The most memory that the process has ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("transfer", [upload, download])
async def test_two_gib_pass_in_little_memory(
    nats_server: NatsServer, tmp_path: Path, transfer: Callable[[socket.socket], None]
) -> None:
    with worker() as port:
        async with (
            running_world(nats_server.url) as world,
            router_process(
                tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1"
            ) as process,
        ):
            router = urlsplit((await process.ready())["X_URL"])
            endpoint_id = await world.put_endpoint("echo")
            await world.assign(endpoint_id, "wk-1", "rt-1")
            await world.put_worker_status("wk-1", port)
            await until(lambda: world.last_report("rt-1", endpoint_id))
            pid = process.process.pid
            before = peak_bytes(pid)

            def transfer_all() -> None:
                with socket.create_connection((router.hostname, router.port)) as sock:
                    sock.settimeout(WAIT_S)
                    transfer(sock)

            await asyncio.to_thread(transfer_all)
            os.kill(pid, 0)  # the same process still runs
            assert peak_bytes(pid) - before < 64 * MIB
            assert await process.stop() == 0
