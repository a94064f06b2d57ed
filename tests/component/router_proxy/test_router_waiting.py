"""Requests that wait for a slot."""

import asyncio

import pytest

from tests.fakes.router_world import (
    in_use,
    until,
    waiting,
)
from tests.support.router_scene import Scene, wait_for_waiting
from tests.support.upstream import running_upstream

pytestmark = pytest.mark.nats


async def test_a_full_queue_is_a_429_and_a_free_slot_serves_in_order(scene: Scene) -> None:
    tasks = [asyncio.create_task(scene.text("/echo/hold")) for _ in range(2)]
    await until(lambda: scene.worker.in_flight == 2)
    for n in range(3):
        tasks.append(asyncio.create_task(scene.text("/echo/hold")))
        await wait_for_waiting(scene, n + 1)
    async with scene.client.get(scene.url("/echo/hold")) as response:
        assert response.status == 429
        assert response.headers["Retry-After"]
        assert (await response.json(content_type=None))["queue_length"] == 3
    scene.worker.release.set()
    assert await asyncio.gather(*tasks) == ["held"] * 5
    assert scene.worker.most_in_flight == 2
    await until(lambda: in_use(scene.router, "ep-echo") == 0)


async def test_who_waits_too_long_reads_why(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint("empty", scene.router, queue={"max_wait_s": 0.3})
    await scene.world.put_status(endpoint_id, reason="no_capacity", message="0 of 3 nodes fit.")
    status, body = await scene.refusal("/empty/x")
    assert (status, body["reason"]) == (503, "no_capacity")
    assert "0 of 3 nodes fit." in body["detail"]


async def test_an_endpoint_that_cannot_start_fails_fast_those_who_wait(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint("crashes", scene.router)
    waits = asyncio.create_task(scene.refusal("/crashes/x"))
    await until(lambda: waiting(scene.router, endpoint_id) == 1)
    await scene.world.put_status(endpoint_id, reason="crash_backoff", message="exit code 3")
    status, body = await waits
    assert (status, body["reason"]) == (503, "crash_backoff")
    assert "exit code 3" in body["detail"]
    assert (await scene.refusal("/crashes/x"))[0] == 503


async def test_a_cold_start_says_so(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint("cold", scene.router)
    request = asyncio.create_task(scene.client.get(scene.url("/cold/echo")).__aenter__())
    await until(lambda: waiting(scene.router, endpoint_id) == 1)
    await scene.world.run_worker(endpoint_id, "wk-9", scene.worker.port, scene.router)
    response = await request
    assert response.headers["X-Penstock-Cold-Start"] == "1"
    assert int(response.headers["X-Penstock-Queue-Ms"]) > 0
    response.close()


async def test_a_client_that_leaves_while_it_waits_frees_its_place(scene: Scene) -> None:
    held = [asyncio.create_task(scene.text("/echo/hold")) for _ in range(2)]
    await until(lambda: scene.worker.in_flight == 2)
    gone = asyncio.create_task(scene.text("/echo/hold"))
    await until(lambda: waiting(scene.router, "ep-echo") == 1)
    gone.cancel()
    await until(lambda: waiting(scene.router, "ep-echo") == 0)
    scene.worker.release.set()
    assert await asyncio.gather(*held) == ["held"] * 2
    assert scene.worker.n_requests == 2


async def test_a_client_that_leaves_is_left_by_its_worker(scene: Scene) -> None:
    gone = asyncio.create_task(scene.text("/echo/hold"))
    await until(lambda: scene.worker.in_flight == 1)
    gone.cancel()
    await until(lambda: scene.worker.n_cancelled == 1, what="the worker's request is cancelled")
    await until(lambda: in_use(scene.router, "ep-echo") == 0)


async def test_a_hundred_clients_never_exceed_two_times_two_slots(scene: Scene) -> None:
    async with running_upstream() as second:
        record = scene.world.endpoint("ep-echo")
        spec = record.spec.model_copy(
            update={"queue": record.spec.queue.model_copy(update={"max_waiting": 1000})}
        )
        await scene.world.change_endpoint(record.model_copy(update={"spec": spec}))
        await scene.world.run_worker("ep-echo", "wk-2", second.port, scene.router)
        answers = await asyncio.gather(*(scene.text("/echo/sleep?s=0.02") for _ in range(100)))
        assert answers == ["slept"] * 100
        assert scene.worker.n_requests + second.n_requests == 100
        assert scene.worker.most_in_flight == second.most_in_flight == 2


async def test_more_slots_take_effect_at_once(scene: Scene) -> None:
    tasks = [asyncio.create_task(scene.text("/echo/hold")) for _ in range(4)]
    await until(lambda: waiting(scene.router, "ep-echo") == 2)
    record = scene.world.endpoint("ep-echo")
    workers = record.spec.workers.model_copy(update={"max_concurrency": 4})
    spec = record.spec.model_copy(update={"workers": workers})
    await scene.world.change_endpoint(record.model_copy(update={"spec": spec}))
    await until(lambda: scene.worker.in_flight == 4)
    scene.worker.release.set()
    await asyncio.gather(*tasks)
