"""Clients as people use them, through a real router process to a real worker."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import openai
import pytest
import pytest_asyncio
import requests
import websockets

from penstock_common import subjects
from penstock_common.entropy import random_secret
from penstock_common.nats.kv import Bucket
from tests.fakes.router_world import running_world, until
from tests.support.nats_server import NatsServer
from tests.support.requirements import require
from tests.support.router_process import router_process
from tests.support.upstream import UpstreamServer, running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]

BODY = bytes(range(256)) * 4096  # 1 MiB
EVENTS = [f"data: {n}\n\n" for n in range(3)]


class Way:
    """A router's address, a key, and what stands behind it."""

    def __init__(self, url: str, key: str, worker: UpstreamServer) -> None:
        self.url = f"{url}/echo"
        self.headers = {"Authorization": f"Bearer {key}"}
        self.key = key
        self.worker = worker


@pytest_asyncio.fixture
async def way(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Way]:
    key = random_secret()
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1") as process,
    ):
        url = (await process.ready())["X_URL"]
        await world.put_key(key)
        endpoint_id = await world.put_endpoint("echo", public=False)
        await world.assign(endpoint_id, "wk-1", "rt-1")
        await world.put_worker_status("wk-1", worker.port)
        assert await Bucket(world.bus, subjects.ROUTERS).get("rt-1")
        await until(
            lambda: (
                (r := world.last_report("rt-1", endpoint_id))
                and any(w.accepting for w in r.workers)
            )
        )
        yield Way(url, key, worker)


def counted(answer: object) -> bool:
    """Whether the worker got all of `BODY`."""
    return answer == {"n_bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}


async def curl(*arguments: str) -> str:
    """What curl prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_curl(way: Way, tmp_path: Path) -> None:
    require(shutil.which("curl") is not None, "curl")
    key = ("-H", f"Authorization: Bearer {way.key}")
    file = tmp_path / "body"
    file.write_bytes(BODY)
    assert json.loads(await curl(*key, f"{way.url}/a?b=1"))["target"] == "/a?b=1"
    assert json.loads(await curl(*key, "--http1.0", f"{way.url}/a"))["method"] == "GET"
    # Above 1 MiB curl sends `Expect: 100-continue`; chunked, it knows no length.
    for more in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")):
        answer = await curl(*key, *more, "--upload-file", str(file), f"{way.url}/count")
        assert counted(json.loads(answer)), more
    headers = await curl(*key, "--head", f"{way.url}/a")
    assert headers.startswith("HTTP/1.1 200")
    assert "X-Penstock-Worker: wk-1" in headers
    for _ in EVENTS:
        way.worker.step.release()
    assert await curl(*key, "--no-buffer", f"{way.url}/events?n=3") == "".join(EVENTS)
    refused = await asyncio.create_subprocess_exec(
        "curl", "--silent", f"{way.url}/a", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await refused.communicate()
    assert json.loads(output)["reason"] == "missing_api_key"


async def test_aiohttp(way: Way) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(BODY), 100_000):
            yield BODY[begin : begin + 100_000]

    async with aiohttp.ClientSession(headers=way.headers) as session:
        for data in (BODY, pieces()):
            async with session.post(f"{way.url}/count", data=data) as response:
                assert counted(await response.json())
        async with session.get(f"{way.url}/events?n=3") as response:
            for event in EVENTS:  # each comes before the next one is sent
                way.worker.step.release()
                assert await response.content.readexactly(len(event)) == event.encode()
        async with session.put(f"{way.url}/count", data=BODY, expect100=True) as response:
            assert counted(await response.json())


async def test_requests(way: Way) -> None:
    def ask() -> None:
        with requests.Session() as session:
            session.headers.update(way.headers)
            for _ in range(3):  # over one connection
                assert session.get(f"{way.url}/a", timeout=60).json()["target"] == "/a"
            assert counted(session.post(f"{way.url}/count", data=BODY, timeout=60).json())
            chunks = (BODY[i : i + 50_000] for i in range(0, len(BODY), 50_000))
            assert counted(session.post(f"{way.url}/count", data=chunks, timeout=60).json())
            with session.get(f"{way.url}/big?n=300000", stream=True, timeout=60) as big:
                assert sum(map(len, big.iter_content(4096))) == 300_000

    await asyncio.to_thread(ask)


async def test_httpx(way: Way) -> None:
    async with httpx.AsyncClient(headers=way.headers, timeout=60) as client:
        answers = await asyncio.gather(*(client.get(f"{way.url}/a?n={n}") for n in range(20)))
        assert [answer.json()["target"] for answer in answers] == [f"/a?n={n}" for n in range(20)]
        assert counted((await client.post(f"{way.url}/count", content=BODY)).json())
        async with client.stream("GET", f"{way.url}/events?n=3") as response:
            lines = response.aiter_lines()
            for event in EVENTS:
                way.worker.step.release()
                assert await anext(lines) == event.strip()
                assert await anext(lines) == ""


async def test_openai(way: Way) -> None:
    """A completion is answered and streamed by whatever speaks the protocol behind the router."""
    async with openai.AsyncOpenAI(
        base_url=f"{way.url}/v1", api_key=way.key, max_retries=0, timeout=60
    ) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="m", messages=[{"role": "user", "content": "hi"}]
        )
    answer = json.loads(raw.text)
    assert answer["target"] == "/v1/chat/completions"
    assert json.loads(answer["body"])["messages"] == [{"role": "user", "content": "hi"}]


async def test_websockets(way: Way) -> None:
    url = way.url.replace("http://", "ws://")
    async with (
        asyncio.timeout(60),
        websockets.connect(
            f"{url}/websocket", additional_headers=way.headers, max_size=None
        ) as socket,
    ):
        for message in ("text", b"\x00binary", "x" * 1_000_000, b"y" * 1_000_000):
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
        await socket.send("close 4001")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as told")
    await until(lambda: way.worker.in_flight == 0)
