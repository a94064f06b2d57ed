"""What is made of a nats-server's word about itself."""

import socket
import threading
from pathlib import Path

import pytest

from penstock_cli.local import nats_server

FAILED = b'{"status":"unavailable","error":"JetStream stream \'A\' write error: no space left"}'


def answering(answer: bytes) -> str:
    """The URL of a server that gives one connection these bytes, and closes."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def http(status: str, body: bytes, *, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


async def test_a_failed_write_is_an_ailment_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_server, "_ENOUGH_BYTES", 1)
    failed = http("503 Service Unavailable", FAILED)
    why = await nats_server.storage_ailment(answering(failed), tmp_path)
    assert why is not None
    assert "no space left" in why
    monkeypatch.setattr(nats_server, "_ENOUGH_BYTES", 1 << 62)
    assert await nats_server.storage_ailment(answering(failed), tmp_path) is None


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b'{"status":"ok"}'),
        http("503 Service Unavailable", b'{"error":"JetStream is not current"}'),
        http("503 Service Unavailable", FAILED, length=1_000),
        b"no HTTP\r\n\r\n",
        b"",
    ],
    ids=["well", "another problem", "broken off", "no HTTP", "nothing"],
)
async def test_nothing_else_is(answer: bytes, tmp_path: Path) -> None:
    assert await nats_server.storage_ailment(answering(answer), tmp_path) is None
