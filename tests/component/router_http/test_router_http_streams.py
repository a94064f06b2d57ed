"""Bodies of any size at any pace, the router's time limits, and the clients that people use."""

import asyncio
import gc
import hashlib
import json
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import openai
import pytest

from penstock_common.sketch import weight_of
from tests.fakes.router_world import until
from tests.support.http_rig import HttpRig, running_rig
from tests.support.raw_worker import RawWorker, raw_client, running_raw_worker
from tests.support.upstream import running_upstream

GET = b"GET /echo/x HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MIB = 1 << 20


def memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def put(rig: HttpRig, port: int, *, slots: int = 2, timeout_s: float = 300) -> None:
    rig.put_endpoint(workers={"max_concurrency": slots, "request_timeout_s": timeout_s})
    rig.put_worker(port)


async def stalls(measure: Callable[[], int]) -> int:
    """The measured number, once it has stood still for a while."""
    seen, same = -1, 0
    async with asyncio.timeout(60):
        while same < 5:
            await asyncio.sleep(0.05)
            now = measure()
            same = same + 1 if now == seen else 0
            seen = now
    return seen


async def test_a_slow_reader_stalls_the_worker_not_the_memory() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            gc.collect()
            before = memory_bytes()
            poured = 0

            async def pour() -> None:
                nonlocal poured
                while True:
                    connection.write(b"x" * 65_536)
                    await connection.writer.drain()
                    poured += 65_536

            pouring = asyncio.create_task(pour())
            assert await stalls(lambda: poured) < 32 * MIB
            assert memory_bytes() - before < 16 * MIB
            buffered = [
                c.transport.get_write_buffer_size()  # type: ignore[attr-defined]
                for c in rig.server._context.connections
            ]
            assert max(buffered) <= 262_144
            pouring.cancel()
        await until(lambda: rig.in_use() == 0)


async def test_a_slow_worker_stalls_the_client() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
            connection = await worker.connection()
            connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
            sent = 0

            async def pour() -> None:
                nonlocal sent
                while True:
                    client.write(b"x" * 65_536)
                    await client.writer.drain()
                    sent += 65_536

            pouring = asyncio.create_task(pour())
            assert await stalls(lambda: sent) < 32 * MIB
            (carrying,) = rig.server._context.connections
            worker_side = carrying._exchange._worker  # type: ignore[attr-defined]
            assert worker_side.transport.get_write_buffer_size() <= 262_144
            pouring.cancel()
            # The router does not read from the client now, and still sees it leave.
            client.reset()
            await until(lambda: rig.in_use() == 0, what="the slot is free")


@pytest.mark.parametrize("slow_side", ["client", "worker"])
async def test_a_tunnel_stalls_whoever_sends_too_fast(slow_side: str) -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(
                b"GET /echo/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
            )
            connection = await worker.connection()
            await connection.head()
            connection.write(
                b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
            )
            await client.head()
            slow, fast = (client, connection) if slow_side == "client" else (connection, client)
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            sent = 0

            async def pour() -> None:
                nonlocal sent
                while True:
                    fast.write(b"x" * 65_536)
                    await fast.writer.drain()
                    sent += 65_536

            pouring = asyncio.create_task(pour())
            assert await stalls(lambda: sent) < 32 * MIB
            (carrying,) = rig.server._context.connections
            sides: Any = {"client": carrying}
            sides["worker"] = sides["client"]._exchange._worker
            towards = sides[slow_side]
            assert towards.transport.get_write_buffer_size() <= 262_144
            pouring.cancel()
            slow.reset()
            await until(lambda: rig.in_use() == 0, what="the slot is free")


@pytest.mark.slow
async def test_large_bodies_pass_in_little_memory() -> None:
    piece = bytes(range(256)) * 1024
    n = 256
    digest = hashlib.sha256()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(n):
            digest.update(piece)
            yield piece

    async with (
        running_upstream() as worker,
        running_rig() as rig,
        aiohttp.ClientSession() as client,
    ):
        put(rig, worker.port)
        url = f"http://127.0.0.1:{rig.port}/echo"
        gc.collect()
        before = memory_bytes()
        async with client.post(f"{url}/count", data=pieces()) as response:
            counted = await response.json()
        assert counted == {"n_bytes": n * len(piece), "sha256": digest.hexdigest()}
        async with client.get(f"{url}/pour") as response:
            assert len(await response.content.readexactly(n * len(piece))) == n * len(piece)
        del response
        gc.collect()
        assert memory_bytes() - before < 2 * n * len(piece)


async def test_each_event_passes_at_once() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            connection.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            await client.head()
            for i in range(20):
                event = b"data: %03d\n\n" % i
                chunk = b"%x\r\n%b\r\n" % (len(event), event)
                for piece in (chunk[:5], chunk[5:-1], chunk[-1:]):
                    connection.write(piece)
                    await asyncio.sleep(0)
                assert await client.read(len(chunk)) == chunk
            connection.write(b"0\r\n\r\n")
            assert await client.read(5) == b"0\r\n\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "whole", "begun"),
    [
        ((HEAD + b"data",), 1, 0),
        ((HEAD, b"data"), 1, 0),
        ((HEAD + b"da", b"ta"), 0, 1),
        ((HEAD, b"d", b"at", b"a"), 0, 1),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 1, 0),
    ],
)
async def test_when_a_body_begins_is_counted_apart_where_it_comes_in_pieces(
    pieces: tuple[bytes, ...], whole: int, begun: int
) -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            for n, piece in enumerate(pieces):
                connection.write(piece)
                if n == 0:
                    await client.head()
                    await client.read(len(piece.partition(b"\r\n\r\n")[2]))
                else:
                    await client.read(len(piece))
            await until(lambda: rig.in_use() == 0)
            lane = rig.dispatcher.lanes["ep-echo"]
            sketches = (lane.whole_times, lane.begun_times, lane.apart_times)
            counted = [weight_of(sketch.read(0.0)) for sketch in sketches]
            assert counted == [whole, begun, begun]
            if begun:
                (first,), (last,) = (sketch.read(0.0) for sketch in sketches[1:])
                assert first <= last, "an answer begins before it ends"


async def test_an_answer_that_broke_off_before_its_body_has_no_first_byte() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            connection.write(HEAD)
            await client.head()
            client.abort()
            await until(lambda: rig.in_use() == 0)
    lane = rig.dispatcher.lanes["ep-echo"]
    assert weight_of(lane.apart_times.read(0.0)) == 1
    assert lane.whole_times.read(0.0) == lane.begun_times.read(0.0) == ()


# ---- time


async def refusal(rig: HttpRig, request: bytes) -> tuple[int, str, str]:
    async with raw_client(rig.port) as client:
        client.write(request)
        return told(await client.ended())


def told(answer: bytes) -> tuple[int, str, str]:
    """Status, reason and detail of a problem."""
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    return body["status"], body["reason"], body["detail"]


CLOSING_GET = b"GET /echo/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


async def test_a_head_that_takes_too_long_takes_no_slot() -> None:
    async with running_raw_worker() as worker, running_rig(header_timeout_s=20) as rig:
        put(rig, worker.port)
        time, connections = rig.hold_time(), rig.server._context.connections
        async with raw_client(rig.port) as client, raw_client(rig.port) as silent:
            client.write(CLOSING_GET[:-2])
            await until(lambda: len(connections) == 2)
            await until(lambda: any(each._begun for each in connections))  # type: ignore[attr-defined]
            time.advance(19)
            assert not any(each._closing for each in connections)  # type: ignore[attr-defined]
            time.advance(2)
            status, reason, detail = told(await client.ended())
            assert await silent.ended() == b""
        assert (status, reason) == (408, "header_timeout")
        assert "header_timeout_s" in detail
        assert rig.dispatcher.lanes["ep-echo"].arrivals_total == 0


async def test_an_idle_connection_is_closed() -> None:
    async with running_raw_worker() as worker, running_rig(client_keepalive_s=0.2) as rig:
        put(rig, worker.port)
        async with raw_client(rig.port) as client:
            client.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await client.ended()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_that_pauses_too_long_gives_the_slot_back() -> None:
    async with running_raw_worker() as worker, running_rig(body_idle_timeout_s=0.2) as rig:
        put(rig, worker.port)
        request = b"POST /echo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc"
        status, reason, detail = await refusal(rig, request)
        assert (status, reason) == (408, "body_timeout")
        assert "body_idle_timeout_s" in detail
        assert rig.in_use() == 0


async def test_a_worker_that_does_not_begin_is_left() -> None:
    async with running_raw_worker() as worker, running_rig(first_byte_timeout_s=0.2) as rig:
        put(rig, worker.port)
        status, reason, detail = await refusal(rig, CLOSING_GET)
        assert (status, reason) == (504, "first_byte_timeout")
        assert "first_byte_timeout_s" in detail
        assert rig.in_use() == 0


async def test_a_request_that_takes_too_long_is_left() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port, timeout_s=0.2)
        status, reason, detail = await refusal(rig, CLOSING_GET)
        assert (status, reason) == (504, "request_timeout")
        assert "workers.request_timeout_s" in detail
        assert rig.in_use() == 0


async def test_a_worker_that_pauses_too_long_is_cut() -> None:
    async with running_raw_worker() as worker, running_rig(stream_idle_timeout_s=10) as rig:
        put(rig, worker.port)
        time = rig.hold_time()
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
            await client.head()
            for _ in range(5):
                time.advance(9)
                connection.write(b"x")
                assert await client.read(1) == b"x"
            time.advance(9)
            assert rig.in_use() == 1
            time.advance(2)
            assert await client.ended() in (b"", b"(cut)")
            await connection.ended()
        assert rig.in_use() == 0


async def test_who_waits_too_long_reads_why() -> None:
    async with running_rig() as rig:
        rig.put_endpoint(queue={"max_wait_s": 0.2})
        status, reason, detail = await refusal(rig, CLOSING_GET)
        assert (status, reason) == (503, "queue_timeout")
        assert "queue.max_wait_s" in detail
        assert rig.waiting() == 0


async def test_a_port_that_answers_nothing_is_a_timeout_of_the_connection() -> None:
    async with running_rig(connect_timeout_s=0.2, max_attempts=1) as rig:
        put(rig, 9)
        # TEST-NET-1 is routed nowhere; where it is refused at once, the reason is the same.
        driven = rig.dispatcher.lanes["ep-echo"].driven["wk-1"]
        driven.address = type(driven.address)("192.0.2.1", 9)  # type: ignore[misc]
        status, reason, _ = await refusal(rig, CLOSING_GET)
        assert (status, reason) == (502, "worker_unreachable")
        assert rig.in_use() == 0


async def test_idle_connections_to_workers_are_closed() -> None:
    async with running_raw_worker() as worker, running_rig(worker_keepalive_s=10) as rig:
        put(rig, worker.port)
        time = rig.hold_time()
        async with raw_client(rig.port) as client:
            client.write(GET)
            connection = await worker.connection()
            await connection.head()
            connection.write(OK)
            await client.until(b"ok")
            time.advance(9)
            assert rig.upstream.idle == 1
            time.advance(2)
            assert rig.upstream.idle == 0
            assert await connection.ended() == b""


# ---- many, and clients that people use


async def test_many_clients_leave_no_slot_behind() -> None:
    """Clients that leave at any moment, beside ones that stay."""
    async with running_upstream() as worker, running_rig() as rig:
        put(rig, worker.port, slots=3)
        served = 0

        async def one(i: int) -> None:
            nonlocal served
            async with raw_client(rig.port) as client:
                client.write(b"POST /echo/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
                await asyncio.sleep(0.001 * (i % 7))
                client.write(b"hello"[: 5 if i % 3 else 2])
                if i % 3 and i % 4:
                    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                    served += 1
                elif i % 2:
                    await asyncio.sleep(0.001 * (i % 5))

        async with asyncio.TaskGroup() as group:
            for i in range(120):
                group.create_task(one(i))
        assert served == sum(1 for i in range(120) if i % 3 and i % 4)
        await until(lambda: rig.in_use() == 0 and rig.waiting() == 0)
        assert rig.server.in_flight == 0
        # One of each slot may end at the worker a little after it is left.
        assert worker.most_in_flight <= 6


def openai_answer(stream: bool) -> bytes:
    if not stream:
        body = json.dumps(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": "hello"},
                    }
                ],
            }
        ).encode()
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
    out = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for word in ("he", "llo"):
        chunk = {
            "id": "c",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": word}}],
        }
        event = b"data: %b\n\n" % json.dumps(chunk).encode()
        out += b"%x\r\n%b\r\n" % (len(event), event)
    return out + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def serve_openai(worker: RawWorker) -> None:
    connection = await worker.connection()
    for stream in (False, True):
        head = await connection.head()
        length = next(
            int(line[15:])
            for line in head.decode().lower().split("\r\n")
            if line.startswith("content-length:")
        )
        await connection.read(length)
        connection.write(openai_answer(stream))


async def test_the_openai_client_is_served() -> None:
    async with running_raw_worker() as worker, running_rig() as rig:
        put(rig, worker.port)
        serving = asyncio.create_task(serve_openai(worker))
        async with openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{rig.port}/echo/v1",
            api_key="k",
            max_retries=0,
            timeout=60,
        ) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            answer = await client.chat.completions.create(model="m", messages=messages)
            assert answer.choices[0].message.content == "hello"
            stream: Any = await client.chat.completions.create(
                model="m", messages=messages, stream=True
            )
            words = [piece.choices[0].delta.content async for piece in stream]
            assert words == ["he", "llo"]
        await serving


async def test_aiohttps_web_socket_client_is_served() -> None:
    async def echo(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data * 2)
        return socket

    app = aiohttp.web.Application()
    app.router.add_get("/ws", echo)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    async with running_rig() as rig, aiohttp.ClientSession() as client:
        put(rig, runner.addresses[0][1])
        async with client.ws_connect(f"http://127.0.0.1:{rig.port}/echo/ws") as socket:
            for text in ("a", "b" * 100_000):
                await socket.send_str(text)
                assert await socket.receive_str() == text * 2
            assert rig.in_use() == 1
        await until(lambda: rig.in_use() == 0)
    await runner.cleanup()
