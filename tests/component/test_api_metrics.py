"""GET /v1/endpoints/{endpoint}/metrics and its command, with a router and nodes played."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common.messages import QueueReport
from penstock_common.sketch import DecayedSketch
from penstock_common.states import WorkerState
from penstock_common.subjects import queue_metrics
from tests.component.test_api_workers import assign
from tests.component.test_cli_commands import Penstock
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def report(api: ApiServer, endpoint_id: str, arrivals: int) -> None:
    sketch = DecayedSketch()
    sketch.add(0.5)
    began = DecayedSketch()
    began.add(0.1)
    told = QueueReport(
        router_id="rt-1",
        endpoint_id=endpoint_id,
        sent_at=CLOCK.utc(),
        waiting=2,
        oldest_wait_s=1.5,
        in_flight=1,
        arrivals_total=arrivals,
        completions_total=arrivals - 3,
        errors_total=1,
        service_times=sketch.read(CLOCK.monotonic()),
        first_byte_times=began.read(CLOCK.monotonic()),
    )
    await api.bus.publish(queue_metrics(endpoint_id), told.encode())


async def test_what_routers_report_is_shown_now_and_once_its_step_is_over(
    api: ApiServer, tmp_path: Path
) -> None:
    made = await api.create("echo")
    await assign(api, 1, made["id"], state=WorkerState.RUNNING)
    arrivals = 3

    async def has_a_point() -> dict[str, Any] | None:
        nonlocal arrivals
        await report(api, made["id"], arrivals)
        answer = await api.ask("GET", "/v1/endpoints/echo/metrics?window=600&step=10")
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.document
        busy = [point for point in shown["points"] if point["requests"]]
        arrivals += 1 if not busy else 0
        return shown if busy else None

    shown = await eventually(has_a_point)
    assert shown is not None
    assert (shown["window_s"], shown["step_s"], shown["load"]["waiting"]) == (600, 10, 2)
    assert shown["workers"]["running"] == 1
    point = next(point for point in shown["points"] if point["requests"])
    assert (point["waiting"], point["in_flight"], point["oldest_wait_s"]) == (2, 1, 1.5)
    assert point["workers"] == shown["workers"]
    assert point["requests_per_s"] == pytest.approx(point["requests"] / 10, abs=0.001)
    assert point["service_p99_s"] == pytest.approx(0.5, rel=0.06)
    assert point["first_byte_p50_s"] == pytest.approx(0.1, rel=0.06)
    assert shown["load"]["first_byte_p95_s"] == pytest.approx(0.1, rel=0.06)

    penstock = Penstock(api, tmp_path)
    told = (await penstock("endpoint", "metrics", "echo", "--window", "600")).out
    lines = {line.split("  ")[0]: line for line in told.splitlines()}
    assert "running" in told
    assert "0.1 s" in lines["first byte p50"] or "0.09" in lines["first byte p50"]
    assert set("▁▂▃▄▅▆▇█") & set(lines["waiting"])
    printed = await penstock("endpoint", "metrics", "echo", "--window", "60", "--json")
    assert json.loads(printed.out)["window_s"] == 60


@pytest.mark.parametrize("query", ["window=5", "window=3610", "window=15", "step=x", "step=-10"])
async def test_a_window_or_step_that_cannot_be_is_refused(api: ApiServer, query: str) -> None:
    await api.create("echo")
    refused = await api.ask("GET", f"/v1/endpoints/echo/metrics?{query}")
    assert (refused.status, refused.document["reason"]) == (400, "bad_query")
    assert "multiple of 10 seconds from 10 to 3600" in refused.document["detail"]


async def test_metrics_of_what_is_not_there_are_404(api: ApiServer) -> None:
    assert (await api.ask("GET", "/v1/endpoints/echo/metrics")).status == 404
