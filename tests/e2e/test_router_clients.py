"""The clients that people use, through a router process, to a worker in aiohttp."""

import asyncio
import contextlib
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import httpx
import openai
import pytest
import pytest_asyncio
import requests
import websockets.asyncio.client

from tests.fakes.router_world import running_world, until
from tests.support.nats_server import NatsServer
from tests.support.requirements import require
from tests.support.router_process import router_process

pytestmark = [pytest.mark.slow, pytest.mark.nats]
BODY = bytes(range(256)) * 4096


async def _echo(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    body = await request.read()
    return aiohttp.web.json_response(
        {
            "method": request.method,
            "n_bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "expect": request.headers.get("Expect"),
        }
    )


async def _events(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    response = aiohttp.web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for i in range(3):
        await response.write(b"data: %d\n\n" % i)
    return response


async def _chat(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    asked = await request.json()
    base = {"id": "c", "created": 1, "model": "m"}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "hello"}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
        return aiohttp.web.json_response({**base, "object": "chat.completion", "choices": [choice]})
    response = aiohttp.web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for word in ("he", "llo"):
        choice = {"index": 0, "delta": {"content": word}}
        event = {**base, "object": "chat.completion.chunk", "choices": [choice]}
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def _ws(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
    socket = aiohttp.web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4321, message=b"as asked")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


@contextlib.asynccontextmanager
async def running_worker() -> AsyncIterator[int]:
    """A worker that speaks what a model server speaks; gives its port."""
    app = aiohttp.web.Application(client_max_size=1 << 30)
    app.router.add_get("/events", _events)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/ws", _ws)
    app.router.add_route("*", "/{tail:.*}", _echo)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def url(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[str]:
    """Where the endpoint is."""
    async with (
        running_world(nats_server.url) as world,
        running_worker() as port,
        router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1") as process,
    ):
        router_url = (await process.ready())["X_URL"]
        endpoint_id = await world.put_endpoint("echo")
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", port)
        await until(lambda: world.last_report("rt-1", endpoint_id))
        yield f"{router_url}/echo"
        assert await process.stop() == 0


def is_whole(answer: Any, method: str) -> bool:
    digest = hashlib.sha256(BODY).hexdigest()
    return bool(answer["method"] == method and answer["sha256"] == digest)


async def curl(*arguments: str) -> str:
    require(shutil.which("curl") is not None, "curl")
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--fail", "--max-time", "30", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_curl(url: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    upload = ("-T", str(tmp_path / "body"), f"{url}/up")
    assert json.loads(await curl(f"{url}/x"))["method"] == "GET"
    assert json.loads(await curl("--http1.0", f"{url}/x"))["method"] == "GET"
    assert (await curl("-I", f"{url}/x")).startswith("HTTP/1.1 200 ")
    for options in (
        (),
        ("-H", "Transfer-Encoding: chunked"),
        ("-H", "Expect: 100-continue"),
        ("--http1.0",),
    ):
        answer = json.loads(await curl(*options, *upload))
        assert is_whole(answer, "PUT")
        assert answer["expect"] is None
    assert await curl("-N", f"{url}/events") == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    twice = await curl("-w", "[%{num_connects}]", f"{url}/x", f"{url}/x")
    assert "[1]" in twice
    assert "[0]" in twice  # the second went on the same connection


async def test_requests(url: str) -> None:
    def ask() -> None:
        with requests.Session() as session:
            assert is_whole(session.post(url, data=BODY, timeout=30).json(), "POST")
            pieces = (BODY[i : i + 65_536] for i in range(0, len(BODY), 65_536))
            assert is_whole(session.put(url, data=pieces, timeout=30).json(), "PUT")
            with session.get(f"{url}/events", stream=True, timeout=30) as events:
                assert [line for line in events.iter_lines() if line] == [
                    b"data: 0",
                    b"data: 1",
                    b"data: 2",
                ]

    await asyncio.to_thread(ask)


async def test_httpx(url: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for i in range(0, len(BODY), 65_536):
            yield BODY[i : i + 65_536]

    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        assert is_whole((await client.post(url, content=BODY)).json(), "POST")
        assert is_whole((await client.put(url, content=pieces())).json(), "PUT")
        async with client.stream("GET", f"{url}/events") as events:
            lines = [line async for line in events.aiter_lines() if line]
            assert lines == ["data: 0", "data: 1", "data: 2"]


async def test_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as client:
        for _ in range(3):
            async with client.post(url, data=BODY, expect100=True) as answer:
                assert is_whole(await answer.json(), "POST")
        async with client.get(f"{url}/events") as events:
            assert await events.text() == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_openai(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        answer = await client.chat.completions.create(model="m", messages=messages)
        assert answer.choices[0].message.content == "hello"
        stream: Any = await client.chat.completions.create(
            model="m", messages=messages, stream=True
        )
        assert [part.choices[0].delta.content async for part in stream] == ["he", "llo"]


async def test_websockets(url: str) -> None:
    ws_url = url.replace("http://", "ws://") + "/ws"
    async with websockets.asyncio.client.connect(ws_url, max_size=None, proxy=None) as socket:
        large = "a" * (1 << 20)
        for message in ("text", b"\x00binary\xff", large, large.encode()):
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 20) == message
        await asyncio.wait_for(await socket.ping(), 20)
        await socket.send("close")
        await asyncio.wait_for(socket.wait_closed(), 20)
        assert socket.close_code == 4321
        assert socket.close_reason == "as asked"
