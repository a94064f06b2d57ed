"""One router before real workers: what passes through it, and what it answers itself."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from penstock_common.states import DesiredState, WorkerState
from penstock_router import reports
from tests.fakes.router_world import (
    RunningRouter,
    World,
    accepts,
    http_client,
    in_use,
    running_router,
    running_world,
    until,
    waiting,
)
from tests.support.nats_server import NatsServer
from tests.support.upstream import UpstreamServer, running_upstream

pytestmark = pytest.mark.nats


class Scene:
    """A router, a worker of the endpoint `echo` (2 slots), and a client."""

    def __init__(
        self,
        world: World,
        running: RunningRouter,
        worker: UpstreamServer,
        client: aiohttp.ClientSession,
    ) -> None:
        self.world = world
        self.router = running.router
        self.running = running
        self.worker = worker
        self.client = client

    def url(self, path: str) -> URL:
        return URL(self.router.url + path, encoded=True)

    async def json(self, path: str, method: str = "GET", **options: Any) -> dict[str, Any]:
        async with self.client.request(method, self.url(path), **options) as response:
            assert response.status == 200, await response.text()
            body: dict[str, Any] = await response.json(content_type=None)
            return body

    async def text(self, path: str) -> str:
        async with self.client.get(self.url(path)) as response:
            assert response.status == 200, await response.text()
            return await response.text()

    async def refusal(self, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        async with self.client.get(self.url(path), **options) as response:
            assert response.content_type == "application/problem+json"
            body: dict[str, Any] = json.loads(await response.read())
            assert body["status"] == response.status
            return response.status, body


@pytest_asyncio.fixture
async def scene(nats_server: NatsServer) -> AsyncIterator[Scene]:
    async with (
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        running_router(nats_server.url, domain="ex.com") as running,
        http_client() as client,
    ):
        endpoint_id = await world.put_endpoint(
            "echo",
            running.router,
            workers={"max_concurrency": 2, "request_timeout_s": 5},
            queue={"max_waiting": 3, "max_wait_s": 5},
        )
        await world.put_lease()
        await world.run_worker(endpoint_id, "wk-1", worker.port, running.router)
        yield Scene(world, running, worker, client)


async def wait_for_waiting(scene: Scene, n: int) -> None:
    await until(lambda: waiting(scene.router, "ep-echo") == n)


def fields(echoed: dict[str, Any], name: str) -> list[str]:
    return [v for n, v in echoed["headers"] if n.lower() == name.lower()]


# ---- what passes


async def test_passes_a_request_and_says_who_served_it(scene: Scene) -> None:
    async with scene.client.post(
        scene.url("/echo/echo/a%2Fb?q=%20x&y"), data=b"hello", headers={"X-Mine": "1"}
    ) as response:
        body = await response.json()
        assert response.status == 200
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers["X-Penstock-Worker"] == "wk-1"
        assert response.headers["X-Penstock-Cold-Start"] == "0"
        assert int(response.headers["X-Penstock-Queue-Ms"]) < 100
        assert response.headers["X-Request-Id"]
    assert body["method"] == "POST"
    assert body["target"] == "/echo/a%2Fb?q=%20x&y"
    assert body["body"] == "hello"
    assert fields(body, "X-Mine") == ["1"]
    assert fields(body, "X-Forwarded-For") == ["127.0.0.1"]
    assert fields(body, "Content-Length") == ["5"]
    assert fields(body, "Connection") in ([], ["keep-alive"])


async def test_an_endpoint_has_a_host_too(scene: Scene) -> None:
    body = await scene.json("/echo/x", headers={"Host": "echo.ex.com"})
    assert body["target"] == "/echo/x"
    assert fields(body, "Host") == ["echo.ex.com"]


async def test_adds_no_header_that_the_client_did_not_send(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
    writer.write(
        b"GET /echo/echo HTTP/1.1\r\nHost: h\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert sorted(name.lower() for name, _ in body["headers"]) == [
        "host",
        "traceparent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ]


async def test_streams_events_as_they_come(scene: Scene) -> None:
    async with scene.client.get(scene.url("/echo/events?n=3")) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        for i in range(3):
            scene.worker.step.release()
            piece = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 2)
            assert piece == f"data: {i}\n\n".encode()
        assert await response.content.read() == b""


async def test_streams_large_bodies_both_ways(scene: Scene) -> None:
    piece = b"0123456789abcdef" * 4096

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(512):
            yield piece

    counted = await scene.json("/echo/count", "POST", data=pieces())
    assert counted["n_bytes"] == 512 * len(piece)
    assert counted["sha256"] == hashlib.sha256(piece * 512).hexdigest()
    async with scene.client.get(scene.url("/echo/big?n=30000000")) as response:
        assert response.headers["Content-Length"] == "30000000"
        assert len(await response.read()) == 30_000_000


async def test_leaves_encoded_bodies_as_they_are(scene: Scene) -> None:
    packed = gzip.compress(b"hello" * 1000)
    counted = await scene.json(
        "/echo/count", "POST", data=packed, headers={"Content-Encoding": "gzip"}
    )
    assert counted["sha256"] == hashlib.sha256(packed).hexdigest()


async def test_a_slow_reader_holds_the_worker_back(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", scene.url("/").port or 0, limit=1024
    )
    writer.write(b"GET /echo/pour HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    poured = -1
    async with asyncio.timeout(10):
        while poured != scene.worker.poured_bytes:
            poured = scene.worker.poured_bytes
            await asyncio.sleep(0.2)  # long enough for megabytes, if nothing held them back
    assert poured < 32_000_000  # what sockets and buffers on the way hold
    writer.transport.abort()
    await until(lambda: in_use(scene.router, "ep-echo") == 0, what="the slot is free again")


async def test_head_has_the_length_but_no_body(scene: Scene) -> None:
    async with scene.client.head(scene.url("/echo/big?n=1000")) as response:
        assert response.headers["Content-Length"] == "1000"
        assert await response.read() == b""


async def test_asks_for_the_body_only_when_somebody_takes_it(scene: Scene) -> None:
    body = await scene.json("/echo/echo", "POST", data=b"hello", expect100=True)
    assert body["body"] == "hello"
    assert fields(body, "Expect") == []


async def test_keeps_a_clients_connection_open(scene: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.url("/").port or 0)
    for _ in range(3):
        writer.write(b"GET /echo/big?n=3 HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(3) == b"xxx"
    writer.close()


# ---- who may


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


# ---- what it answers itself


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
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), answer
        assert b"application/problem+json" in answer


async def test_a_worker_need_not_change_protocols(scene: Scene) -> None:
    body = await scene.json("/echo/ws", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert fields(body, "Upgrade") == ["websocket"]


# ---- waiting


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
    status, body = await asyncio.wait_for(waits, 2)
    assert (status, body["reason"]) == (503, "crash_backoff")
    assert "exit code 3" in body["detail"]
    assert (await asyncio.wait_for(scene.refusal("/crashes/x"), 2))[0] == 503


async def test_a_cold_start_says_so(scene: Scene) -> None:
    endpoint_id = await scene.world.put_endpoint("cold", scene.router)
    request = asyncio.create_task(scene.client.get(scene.url("/cold/echo")).__aenter__())
    await until(lambda: waiting(scene.router, endpoint_id) == 1)
    await scene.world.run_worker(endpoint_id, "wk-9", scene.worker.port, scene.router)
    response = await asyncio.wait_for(request, 5)
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


# ---- workers that fail


async def test_a_worker_that_takes_no_connection_is_passed_over(scene: Scene) -> None:
    async with running_upstream() as dead:
        port = dead.port
    await scene.world.run_worker("ep-echo", "wk-dead", port, scene.router)
    answers = await asyncio.gather(*(scene.json("/echo/echo", "POST", data=b"x") for _ in range(4)))
    assert len(answers) == 4
    assert not accepts(scene.router, "ep-echo", "wk-dead")
    # It comes back with the first probe that passes.
    async with running_upstream(port):
        await until(lambda: accepts(scene.router, "ep-echo", "wk-dead"), timeout_s=5)


async def test_without_another_worker_it_waits_for_the_one_that_comes_back(scene: Scene) -> None:
    async with running_upstream() as dead:
        port = dead.port
    endpoint_id = await scene.world.put_endpoint("flaky", scene.router)
    await scene.world.run_worker(endpoint_id, "wk-f", port, scene.router)
    request = asyncio.create_task(scene.json("/flaky/echo"))
    await until(lambda: waiting(scene.router, endpoint_id) == 1)
    async with running_upstream(port):
        assert (await asyncio.wait_for(request, 5))["method"] == "GET"


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
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400"), answer
    await until(lambda: in_use(scene.router, "ep-echo") == 0)


# ---- draining and reports


async def test_a_draining_worker_gets_no_request_and_the_report_says_so(scene: Scene) -> None:
    held = asyncio.create_task(scene.text("/echo/hold"))
    await until(lambda: scene.worker.in_flight == 1)
    revision = await scene.world.assign(
        "ep-echo", "wk-1", scene.router.router_id, DesiredState.DRAINING
    )

    def load() -> tuple[int, bool, int] | None:
        report = scene.world.last_report(scene.router.router_id, "ep-echo")
        if report is None or not report.workers:
            return None
        worker = report.workers[0]
        return worker.in_flight, worker.accepting, worker.assignment_revision

    await until(lambda: load() == (1, False, revision))
    late = asyncio.create_task(scene.text("/echo/sleep?s=0"))
    await until(lambda: waiting(scene.router, "ep-echo") == 1)
    scene.worker.release.set()
    await held
    await until(lambda: load() == (0, False, revision))
    # A planned stop may be taken back.
    await scene.world.assign("ep-echo", "wk-1", scene.router.router_id)
    assert await asyncio.wait_for(late, 5) == "slept"


async def test_the_first_who_waits_is_reported_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "QUIET_S", 60.0)
    monkeypatch.setattr(reports, "PERIOD_S", 60.0)
    endpoint_id = await scene.world.put_endpoint("zero", scene.router)
    request = asyncio.create_task(scene.text("/zero/x"))
    await until(lambda: scene.world.last_report(scene.router.router_id, endpoint_id))
    report = scene.world.last_report(scene.router.router_id, endpoint_id)
    assert report is not None
    assert (report.waiting, report.arrivals_total) == (1, 1)
    monkeypatch.undo()
    request.cancel()
    await until(
        lambda: (
            (r := scene.world.last_report(scene.router.router_id, endpoint_id)) is not None
            and r.waiting == 0
        )
    )


async def test_a_worker_that_is_not_running_gets_nothing(scene: Scene) -> None:
    await scene.world.put_worker_status("wk-1", scene.worker.port, WorkerState.DRAINING)
    await until(lambda: not accepts(scene.router, "ep-echo", "wk-1"))
    await scene.world.put_worker_status("wk-1", scene.worker.port)
    await until(lambda: accepts(scene.router, "ep-echo", "wk-1"))


async def test_a_drain_lets_requests_end_and_refuses_new_ones(scene: Scene) -> None:
    held = asyncio.create_task(scene.text("/echo/hold"))
    await until(lambda: scene.worker.in_flight == 1)
    empty = await scene.world.put_endpoint("never", scene.router)
    waits = asyncio.create_task(scene.refusal("/never/x"))
    await until(lambda: waiting(scene.router, empty) == 1)
    upload = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        await upload.wait()
        yield b"def"

    uploading = asyncio.create_task(scene.json("/echo/count", "POST", data=pieces()))
    await until(lambda: scene.worker.in_flight == 2)
    scene.running.router._settings = scene.router._settings.model_copy(
        update={"drain_timeout_s": 5.0}
    )
    drained = asyncio.create_task(scene.router.drain())
    assert (await asyncio.wait_for(waits, 2))[1]["reason"] == "router_stopping"
    with pytest.raises(aiohttp.ClientConnectorError):
        await scene.json("/echo/echo")
    assert not drained.done()
    upload.set()
    assert (await uploading)["n_bytes"] == 6
    scene.worker.release.set()
    assert await held == "held"
    await asyncio.wait_for(drained, 2)
