"""Connections that end: at the worker, at the client, by halves."""

import asyncio

import pytest

from tests.fakes.router_world import until
from tests.support.http_rig import running_rig
from tests.support.http_scene import GET, OK, Scene, open_get
from tests.support.raw_worker import raw_client, running_raw_worker


async def test_a_request_that_meets_a_closing_connection_is_sent_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")
    scene.client.write(b"PUT /echo/y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    await worker.head()
    worker.abort()
    second = await scene.worker.connection()
    assert (await second.head()).startswith(b"PUT /y ")
    assert await second.read(3) == b"abc"
    second.write(OK)
    await scene.client.until(b"ok")


async def test_a_post_that_meets_a_closing_connection_is_not_sent_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(OK)
    await scene.client.until(b"ok")
    scene.client.write(b"POST /echo/y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    await worker.head()
    worker.abort()
    head = await scene.client.head()
    assert head.startswith(b"HTTP/1.1 502 ")
    assert scene.worker.n_connections == 1


async def test_half_a_response_head_is_not_tried_again(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 2")
    await asyncio.sleep(0.05)
    worker.close()
    assert (await scene.client.head()).startswith(b"HTTP/1.1 502 ")
    assert scene.worker.n_connections == 1


async def test_half_a_body_is_cut(scene: Scene) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    worker.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await scene.client.until(b"abc\r\n")
    worker.close()
    assert (await scene.client.ended()) in (b"(cut)", b"")
    await scene.all_is_given_back()


@pytest.mark.parametrize("how", ["abort", "close", "reset", "fin"])
async def test_a_client_that_leaves_frees_the_slot_and_the_worker(scene: Scene, how: str) -> None:
    scene.client.write(GET)
    worker = await scene.worker.connection()
    await worker.head()
    match how:
        case "abort":
            scene.client.abort()
        case "close":
            scene.client.writer.close()
        case "reset":
            scene.client.reset()
        case _:
            scene.client.writer.write_eof()
    assert await worker.ended() == b""
    await scene.all_is_given_back()


async def test_a_client_that_leaves_within_its_upload_frees_the_slot(scene: Scene) -> None:
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    worker = await scene.worker.connection()
    await worker.head()
    scene.client.writer.write_eof()
    assert await worker.ended() in (b"abc", b"")
    await scene.all_is_given_back()


async def test_a_client_that_leaves_while_it_waits_frees_its_place(scene: Scene) -> None:
    held = [await open_get(scene) for _ in range(2)]
    # So much of a body that the router does not read on: it looks for the end by itself.
    scene.client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
    scene.client.write(b"x" * 100_000)
    await until(lambda: scene.rig.waiting() == 1)
    scene.client.writer.close()
    await until(lambda: scene.rig.waiting() == 0)
    for each in held:
        each.abort()
    await scene.all_is_given_back()


async def test_a_half_closed_client_may_be_served() -> None:
    async with (
        running_raw_worker() as worker,
        running_rig(serve_half_closed=True) as rig,
        raw_client(rig.port) as client,
    ):
        rig.put_endpoint()
        rig.put_worker(worker.port)
        client.write(GET)
        client.writer.write_eof()
        connection = await worker.connection()
        await connection.head()
        await asyncio.sleep(0.05)
        connection.write(OK)
        assert (await client.ended()).endswith(b"ok")
        assert rig.in_use() == 0
