"""Who may call, and what the router answers itself."""

import asyncio

import pytest

from tests.fakes.router_world import (
    until,
)
from tests.support.router_scene import Scene, fields

pytestmark = pytest.mark.nats


async def test_a_private_endpoint_asks_for_a_key(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint("private", scene.router, public=False)
    await scene.world.put_key("good", "invoke", endpoint_id)
    await scene.world.put_key("other", "invoke", "ep-echo")
    await scene.world.run_worker(endpoint_id, "wk-2", scene.worker.port, scene.router)
    path = "/private/echo"
    assert (await scene.refusal(path))[0] == 401
    assert (await scene.refusal(path, headers={"Authorization": "Bearer bad"}))[0] == 401
    assert (await scene.refusal(path, headers={"Authorization": "Bearer other"}))[0] == 403
    body = await scene.json(path, headers={"Authorization": "Bearer good"})
    assert fields(body, "Authorization") == []


async def test_a_public_endpoint_gets_the_clients_own_credentials(scene: Scene) -> None:
    body = await scene.json("/echo/echo", headers={"Authorization": "Bearer mine"})
    assert fields(body, "Authorization") == ["Bearer mine"]


async def test_knows_no_endpoint_of_that_name(scene: Scene) -> None:
    status, body = await scene.refusal("/nothing/x")
    assert (status, body["reason"]) == (404, "unknown_endpoint")
    assert (await scene.refusal("/"))[0] == 404


async def test_tells_that_it_is_well(scene: Scene) -> None:
    assert (await scene.json("/healthz"))["status"] == "ok"
    assert (await scene.json("/readyz"))["status"] == "ok"


async def test_a_paused_endpoint_refuses(scene: Scene) -> None:
    record = scene.world.endpoint("ep-echo")
    await scene.world.change_endpoint(record.model_copy(update={"paused": True}))
    lane = scene.router.dispatcher.lanes["ep-echo"]
    await until(lambda: lane.condition.closed)
    status, body = await scene.refusal("/echo/echo")
    assert (status, body["reason"]) == (503, "paused")


async def test_what_is_no_http_gets_a_problem_too(scene: Scene) -> None:
    for raw in (
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /echo/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"what\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
        writer.write(raw)
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer
        assert b"application/problem+json" in answer


async def test_a_worker_need_not_change_protocols(scene: Scene) -> None:
    body = await scene.json("/echo/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert fields(body, "Upgrade") == ["websocket"]
