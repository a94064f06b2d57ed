"""Workers that fail under a request, and requests that break."""

import asyncio

import aiohttp
import pytest

from tests.fakes.router_world import (
    accepts,
    in_use,
    until,
    waiting,
)
from tests.support.ports import free_port
from tests.support.router_scene import Scene
from tests.support.upstream import running_upstream

pytestmark = pytest.mark.nats


async def test_a_worker_that_takes_no_connection_is_passed_over(scene: Scene) -> None:
    port = free_port()
    await scene.world.run_worker("ep-echo", "wk-dead", port, scene.router)
    answers = await asyncio.gather(*(scene.json("/echo/echo", "POST", data=b"x") for _ in range(4)))
    assert len(answers) == 4
    assert not accepts(scene.router, "ep-echo", "wk-dead")
    # It comes back with the first probe that passes.
    async with running_upstream(port):
        await until(lambda: accepts(scene.router, "ep-echo", "wk-dead"))


async def test_without_another_worker_it_waits_for_the_one_that_comes_back(scene: Scene) -> None:
    port = free_port()
    endpoint_id = await scene.world.put_endpoint("flaky", scene.router)
    await scene.world.run_worker(endpoint_id, "wk-f", port, scene.router)
    request = asyncio.create_task(scene.json("/flaky/echo"))
    await until(lambda: waiting(scene.router, endpoint_id) == 1)
    async with running_upstream(port):
        assert (await request)["method"] == "GET"


async def test_an_idempotent_request_goes_to_another_worker(scene: Scene) -> None:
    async with scene.client.get(scene.url("/echo/cut")) as response:
        # The only worker cuts it each time: it is tried again, and again, and then given up.
        assert response.status == 502
        assert (await response.json(content_type=None))["reason"] == "worker_disconnected"
    assert scene.worker.n_requests >= 2


async def test_a_post_that_a_worker_may_have_seen_is_not_repeated(scene: Scene) -> None:
    async with scene.client.post(scene.url("/echo/cut"), data=b"x") as response:
        assert response.status == 502
    assert scene.worker.n_requests == 1
    assert in_use(scene.router, "ep-echo") == 0


async def test_half_an_answer_never_looks_whole(scene: Scene) -> None:
    async with scene.client.get(scene.url("/echo/broken")) as response:
        assert await response.content.readexactly(4) == b"half"
        scene.worker.step.release()
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await until(lambda: in_use(scene.router, "ep-echo") == 0)


async def test_a_worker_that_does_not_answer_in_time_is_a_504(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint(
        "slow", scene.router, workers={"request_timeout_s": 0.2}
    )
    await scene.world.run_worker(endpoint_id, "wk-s", scene.worker.port, scene.router)
    status, body = await scene.refusal("/slow/hold")
    assert (status, body["reason"]) == (504, "request_timeout")
    await until(lambda: scene.worker.n_cancelled == 1)


async def test_a_broken_request_body_is_the_clients_fault(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
    writer.write(
        b"POST /echo/count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    await until(lambda: scene.worker.in_flight == 1)
    writer.write(b"zz\r\n")
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400"), answer
    await until(lambda: in_use(scene.router, "ep-echo") == 0)
