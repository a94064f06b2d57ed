"""Calls of endpoints before a stand-in router that fails as it is told."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from penstock_client.call_errors import CallBrokenError, QueueFullError, WorkerFailedError
from penstock_client.endpoint_caller import EndpointCaller
from penstock_client.retrying import RetryPolicy
from penstock_client.sync.endpoint_caller import EndpointSyncCaller

SOON = RetryPolicy(max_attempts=3, first_pause_s=0.01, longest_pause_s=0.02)
WORKER = {"X-Penstock-Worker": "wk-1", "X-Penstock-Queue-Ms": "1500", "X-Penstock-Cold-Start": "1"}


class StandInRouter:
    """Answers with the problems that are told, one a request, then as a worker that echoes."""

    def __init__(self) -> None:
        self.problems: deque[tuple[int, str, str | None]] = deque()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        self.seen.append((request.method, request.path_qs, dict(request.headers), body))
        if self.problems:
            return self._problem(*self.problems.popleft())
        match request.path:
            case "/app/events":
                return await self._events(request, cut=request.query.get("cut") == "yes")
            case "/app/wrong":
                return web.json_response({"error": "none"}, status=400, headers=WORKER)
            case "/app/elsewhere":
                return web.Response(text="<html>")
            case _:
                return web.Response(body=body, headers=WORKER)

    def _problem(self, status: int, reason: str, retry_after: str | None) -> web.Response:
        problem = {"title": "", "status": status, "detail": reason, "reason": reason}
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.Response(
            status=status,
            text=json.dumps({**problem, "queue_length": 3, "position": 4}),
            content_type="application/problem+json",
            headers=headers,
        )

    async def _events(self, request: web.Request, *, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **WORKER})
        await response.prepare(request)
        for n in range(3):
            await response.write(f"event: word\nid: {n}\ndata: {n}\n\n".encode())
        if cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
async def router() -> AsyncIterator[StandInRouter]:
    stand_in = StandInRouter()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stand_in.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}/app"
    yield stand_in
    await runner.cleanup()


@pytest.fixture
async def caller(router: StandInRouter) -> AsyncIterator[EndpointCaller]:
    async with EndpointCaller(router.url, "key", retry=SOON) as connected:
        yield connected


async def test_a_worker_is_asked_and_its_answer_given_as_it_is(
    router: StandInRouter, caller: EndpointCaller
) -> None:
    reply = await caller.call("POST", "/v1/x?a=1", json={"a": "ü"}, affinity="user-7")
    assert (reply.status, reply.json(), reply.text) == (200, {"a": "ü"}, '{"a": "\\u00fc"}')
    head = reply.head
    assert (head.worker_id, head.queue_s, head.is_cold_start) == ("wk-1", 1.5, True)
    method, path, headers, _ = router.seen[0]
    assert (method, path) == ("POST", "/app/v1/x?a=1")
    assert headers["Authorization"] == "Bearer key"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Penstock-Affinity"] == "user-7"
    raw = await caller.call("PUT", data=b"\0\xff", headers={"Content-Type": "image/png"})
    assert raw.body == b"\0\xff"
    assert router.seen[1][:2] == ("PUT", "/app/")
    wrong = await caller.call("GET", "/wrong")
    assert (wrong.status, wrong.head.is_ok, wrong.json()) == (400, False, {"error": "none"})
    async with EndpointCaller(router.url) as stranger:
        await stranger.call("GET")
    assert "Authorization" not in router.seen[-1][2]


async def test_events_come_as_they_are_sent(caller: EndpointCaller) -> None:
    async with caller.stream("GET", "/events") as answer:
        assert answer.head.is_ok
        events = [(event.name, event.data, event.id) async for event in answer.events()]
    assert events == [("word", str(n), str(n)) for n in range(3)] + [("message", "[DONE]", "2")]


async def test_a_stream_that_breaks_off_says_so_and_is_not_begun_anew(
    router: StandInRouter, caller: EndpointCaller
) -> None:
    async with caller.stream("GET", "/events?cut=yes") as answer:
        with pytest.raises(CallBrokenError, match="broke off"):
            _ = [event async for event in answer.events()]
    assert len(router.seen) == 1
    with pytest.raises(CallBrokenError, match="broke off"):
        await caller.call("GET", "/events?cut=yes")


async def test_what_no_worker_has_seen_is_sent_again(
    router: StandInRouter, caller: EndpointCaller
) -> None:
    router.problems += [(429, "queue_full", "0"), (503, "no_capacity", "0")]
    reply = await caller.call("POST", json={"n": 1})
    assert (reply.status, len(router.seen)) == (200, 3)
    router.problems += [(429, "queue_full", "0")] * 3
    with pytest.raises(QueueFullError) as caught:
        await caller.call("POST", json={})
    assert (caught.value.problem.queue_length, caught.value.problem.position) == (3, 4)
    assert len(router.seen) == 6


async def test_what_a_worker_may_have_seen_is_sent_again_only_where_that_does_no_harm(
    router: StandInRouter, caller: EndpointCaller
) -> None:
    router.problems += [(502, "worker_disconnected", None)]
    with pytest.raises(WorkerFailedError):
        await caller.call("POST", json={})
    router.problems += [(502, "worker_disconnected", None)]
    assert (await caller.call("POST", json={}, is_repeatable=True)).status == 200
    router.problems += [(504, "first_byte_timeout", None)]
    assert (await caller.call("GET")).status == 200
    assert len(router.seen) == 5


async def test_what_is_no_router_is_said_to_be_none(caller: EndpointCaller) -> None:
    with pytest.raises(CallBrokenError, match="names no worker"):
        await caller.call("POST", "/elsewhere")
    async with EndpointCaller("http://127.0.0.1:1", retry=SOON) as nowhere:
        with pytest.raises(CallBrokenError):
            await nowhere.call("POST")


async def test_the_synchronous_caller_does_the_same(router: StandInRouter) -> None:
    router.problems += [(429, "queue_full", "0")]

    def work() -> tuple[Any, list[str]]:
        with EndpointSyncCaller(router.url, "key", retry=SOON) as caller:
            reply = caller.call("POST", json={"n": 1})
            with caller.stream("GET", "/events") as answer:
                words = [event.data for event in answer.events()]
            with caller.stream("GET", "/events") as left:
                next(left.chunks())
            with (
                pytest.raises(CallBrokenError, match="broke off"),
                caller.stream("GET", "/events?cut=yes") as broken,
            ):
                list(broken.chunks())
            return reply.json(), words

    assert await asyncio.to_thread(work) == ({"n": 1}, ["0", "1", "2", "[DONE]"])
