"""Endpoints called with the client, through a whole installation."""

import asyncio
import sys
from pathlib import Path

import pytest

from penstock_client.call_errors import (
    CallForbiddenError,
    EndpointClosedError,
    QueueFullError,
    UnknownEndpointError,
)
from penstock_client.client import PenstockClient
from penstock_client.documents import LogEndDocument, LogLineDocument
from penstock_client.endpoint_caller import EndpointCaller
from penstock_client.retrying import NEVER
from penstock_client.sync.client import PenstockSyncClient
from tests.support.installation import ROOT, Installation, eventually

pytestmark = [pytest.mark.slow, pytest.mark.nats]

ECHO = f"{sys.executable} {ROOT}/examples/openai_echo/server.py"
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def endpoint(app: str, command: str, **changes: object) -> dict[str, object]:
    return {"app_name": app, "image": {"command": command}, "gpu": {"count": 0}, **changes}


async def test_an_endpoint_is_called_from_zero_streamed_and_refused(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "none")
    async with (
        Installation(tmp_path / "data", *options) as penstock,
        PenstockClient(penstock.urls["api"], penstock.key, retry=NEVER) as client,
    ):
        await client.endpoints.create(endpoint("echo", ECHO))
        echo = await client.endpoints.caller("echo")
        reply = await echo.call("POST", CHAT, json=HELLO)
        assert reply.json()["choices"][0]["message"]["content"] == "You said: hello"
        assert reply.head.is_cold_start
        assert reply.head.queue_s > 0
        workers = [worker.id async for worker in client.workers.list("echo")]
        assert [reply.head.worker_id] == workers
        async with echo.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
            events = [event.data async for event in answer.events()]
        assert len(events) == 5
        assert events[-1] == "[DONE]"
        assert (await echo.call("POST", CHAT, json={})).status == 400  # the worker's own word
        await _refusals(penstock, client)
        await eventually(lambda: _wrote(client), "what the worker wrote is stored")
        await asyncio.to_thread(_synchronously, penstock)
        await client.endpoints.pause("echo")
        with pytest.raises(EndpointClosedError) as closed:
            await echo.call("GET", "/v1/models")
        assert (closed.value.reason, closed.value.retry_after_s) == ("paused", 60.0)


async def _wrote(client: PenstockClient) -> bool:
    """Whether the first request stands in the worker's lines, which come after it was answered."""
    lines = [line async for line in client.endpoints.logs("echo")]
    return any("POST" in line.text for line in lines if isinstance(line, LogLineDocument))


async def _refusals(penstock: Installation, client: PenstockClient) -> None:
    router = penstock.urls["router"]
    async with EndpointCaller(f"{router}/echo", "not-a-key") as stranger:
        with pytest.raises(CallForbiddenError) as forbidden:
            await stranger.call("POST", CHAT, json=HELLO)
    assert forbidden.value.reason == "invalid_api_key"
    async with EndpointCaller(f"{router}/nobody", penstock.key) as lost:
        with pytest.raises(UnknownEndpointError):
            await lost.call("GET")
    # It never gets healthy, so the first request waits and the second finds the queue full.
    await client.endpoints.create(endpoint("stuck", "sleep 3600", queue={"max_waiting": 1}))
    stuck = await client.endpoints.caller("stuck")
    waiting = asyncio.create_task(stuck.call("GET"))

    async def waits() -> bool:
        return (await client.endpoints.show("stuck")).load.waiting == 1

    await eventually(waits, "the first request waits")
    with pytest.raises(QueueFullError) as full:
        await stuck.call("GET")
    assert (full.value.problem.queue_length, full.value.problem.position) == (1, 2)
    waiting.cancel()
    await asyncio.wait([waiting])


def _synchronously(penstock: Installation) -> None:
    with PenstockSyncClient(penstock.urls["api"], penstock.key) as client:
        echo = client.endpoints.caller("echo")
        with echo.stream("POST", CHAT, json={**HELLO, "stream": True}) as answer:
            assert [event.data for event in answer.events()][-1] == "[DONE]"
        *lines, end = client.endpoints.logs("echo")
        assert any("POST" in line.text for line in lines if isinstance(line, LogLineDocument))
        assert isinstance(end, LogEndDocument)
        assert end.why == "caught_up"
