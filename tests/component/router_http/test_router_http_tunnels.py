"""Connections that change to another protocol."""

import pytest

from tests.support.http_scene import GET, OK, Scene, fields

UPGRADE = (
    b"GET /echo/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def test_a_tunnel_passes_bytes_both_ways_and_each_end_by_itself(scene: Scene) -> None:
    scene.client.write(UPGRADE + b"early")
    worker = await scene.worker.connection()
    head = await worker.head()
    assert fields(head, "Upgrade") == ["websocket"]
    assert fields(head, "Connection") == ["Upgrade"]
    worker.write(SWITCH + b"hello")
    head = await scene.client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert fields(head, "Sec-WebSocket-Accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    assert await scene.client.read(5) == b"hello"
    assert await worker.read(5) == b"early"
    frame = bytes([0x82, 0x83, 1, 2, 3, 4]) + bytes([ord("a") ^ 1, ord("b") ^ 2, ord("c") ^ 3])
    scene.client.write(frame)
    assert await worker.read(len(frame)) == frame
    worker.write(b"\x82\x03abc")
    assert await scene.client.read(5) == b"\x82\x03abc"
    scene.client.writer.write_eof()
    assert await worker.ended() == b""
    assert scene.rig.in_use() == 1
    worker.write(b"bye")
    worker.close()
    assert await scene.client.ended() == b"bye"
    await scene.all_is_given_back()


@pytest.mark.parametrize("side", ["client", "worker"])
async def test_a_tunnel_that_breaks_on_one_side_breaks_on_the_other(
    scene: Scene, side: str
) -> None:
    scene.client.write(UPGRADE)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(SWITCH)
    await scene.client.head()
    if side == "client":
        scene.client.reset()
        await worker.ended()
    else:
        worker.reset()
        await scene.client.ended()
    await scene.all_is_given_back()


async def test_a_worker_that_does_not_change_protocols_answers_as_ever(scene: Scene) -> None:
    scene.client.write(UPGRADE + GET)
    worker = await scene.worker.connection()
    for _ in range(2):
        await worker.head()
        worker.write(OK)
        await scene.client.until(b"ok")
