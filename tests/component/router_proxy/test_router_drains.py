"""Draining workers and routers, and what the reports say of them."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from penstock_common.states import DesiredState, WorkerState
from penstock_router import reports
from tests.fakes.router_world import (
    accepts,
    until,
    waiting,
)
from tests.support.router_scene import Scene

pytestmark = pytest.mark.nats


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
    assert await late == "slept"


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
        update={"drain_timeout_s": 300.0}
    )
    drained = asyncio.create_task(scene.router.drain())
    assert (await waits)[1]["reason"] == "router_stopping"
    with pytest.raises(aiohttp.ClientConnectorError):
        await scene.json("/echo/echo")
    assert not drained.done()
    upload.set()
    assert (await uploading)["n_bytes"] == 6
    scene.worker.release.set()
    assert await held == "held"
    async with asyncio.timeout(60):
        await drained
