"""Usage over HTTP: ended workers from their stream, running ones from the tables."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_api.usage_reader import UsageReader
from penstock_common import subjects
from penstock_common.messages import UsageRecord, WorkerAssignment, WorkerStatus
from penstock_common.specs import parse_endpoint
from penstock_common.states import WorkerState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
DAY = timedelta(days=1)
SPEC = parse_endpoint({"name": "n", "app_name": "echo", "image": {"image": "x"}})


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    prices = {"gpu_prices": "rtx-4090-24gb=0.36, h100-80gb-hbm3=3.6"}
    async with running_api(nats_server, tmp_path / "api", **prices) as server:
        yield server


async def ended(api: ApiServer, worker_id: str, began: datetime, s: float, **fields: Any) -> None:
    record = UsageRecord(
        **{
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "app_name": "echo",
            "owner": "key-admin",
            "node_id": "node-a",
            "gpu_product": "rtx-4090-24gb",
            "gpus": 1,
            "began_at": began,
            "ended_at": began + timedelta(seconds=s),
            **fields,
        }
    )
    await api.bus.store(subjects.usage(worker_id), record.encode())


async def assigned(api: ApiServer, worker_id: str, began: datetime, **fields: Any) -> None:
    assignment = WorkerAssignment(
        worker_id=worker_id,
        node_id="node-a",
        endpoint_id="ep-1",
        spec=SPEC,
        revision=1,
        gpus=("GPU-1", "GPU-2"),
        gpu_product="rtx-4090-24gb",
        owner="key-admin",
        fencing_token=1,
        decided_at=began,
        assigned_at=began,
        **fields,
    )
    await api.put(subjects.WORKERS, subjects.worker_key("node-a", worker_id), assignment)


async def usage(api: ApiServer, query: str = "") -> dict[str, Any]:
    answer = await api.ask("GET", f"/v1/usage{query}")
    assert answer.status == 200, answer
    document: dict[str, Any] = answer.document
    return document


def since(at: datetime) -> str:
    return "?from=" + at.isoformat().replace("+00:00", "Z")


async def test_ended_workers_are_summed_by_what_is_asked(api: ApiServer) -> None:
    began = CLOCK.utc() - DAY
    await ended(api, "wk-1", began, 100)
    await ended(api, "wk-2", began, 50, gpus=2, owner=None)
    await ended(
        api, "wk-3", began, 10, endpoint_id="ep-2", app_name="llm", gpu_product="h100-80gb-hbm3"
    )
    await ended(
        api, "wk-4", began, 30, endpoint_id="ep-3", app_name="cpu", gpus=0, gpu_product=None
    )
    start = since(began)
    report = await usage(api, start)
    assert report["group_by"] == "endpoint"
    assert [tuple(row.values()) for row in report["rows"]] == [
        ("ep-1", "echo", 2, 150.0, 200.0, 0.02),
        ("ep-2", "llm", 1, 10.0, 10.0, 0.01),
        ("ep-3", "cpu", 1, 30.0, 0.0, 0.0),
    ]
    assert tuple(report["total"].values()) == (None, None, 4, 190.0, 210.0, 0.03)
    assert report["prices"] == {"rtx-4090-24gb": 0.36, "h100-80gb-hbm3": 3.6}
    by_key = await usage(api, f"{start}&group_by=key")
    assert {row["group"]: row["gpu_s"] for row in by_key["rows"]} == {
        "key-admin": 110.0,
        None: 100.0,
    }
    by_product = await usage(api, f"{start}&group_by=product")
    assert {row["group"]: row["worker_s"] for row in by_product["rows"]} == {
        "rtx-4090-24gb": 150.0,
        "h100-80gb-hbm3": 10.0,
        None: 30.0,
    }
    by_worker = await usage(api, f"{start}&group_by=worker")
    assert [row["group"] for row in by_worker["rows"]] == ["wk-1", "wk-2", "wk-3", "wk-4"]


async def test_only_what_lies_within_the_time_counts(api: ApiServer) -> None:
    began = CLOCK.utc() - DAY
    await ended(api, "wk-1", began, 100)
    await ended(api, "wk-2", began - 2 * DAY, 100)
    middle = (
        since(began + timedelta(seconds=40))
        + "&to="
        + since(began + timedelta(seconds=70)).removeprefix("?from=")
    )
    report = await usage(api, middle)
    assert (report["total"]["gpu_s"], report["total"]["workers"]) == (30.0, 1)


async def test_workers_that_run_count_until_now_and_each_worker_once(api: ApiServer) -> None:
    began = CLOCK.utc() - timedelta(seconds=1000)
    await assigned(api, "wk-1", began)
    await assigned(api, "wk-2", began)
    # It has ended, its record is written, and its assignment not yet removed.
    await ended(api, "wk-2", began, 10, gpus=2)
    await assigned(api, "wk-3", began)
    gone = WorkerStatus(
        worker_id="wk-3",
        node_id="node-a",
        endpoint_id="ep-1",
        revision=1,
        state=WorkerState.STOPPED,
        updated_at=began + timedelta(seconds=20),
    )
    await api.put(subjects.WORKER_STATUS, subjects.worker_key("node-a", "wk-3"), gone)

    async def shown() -> dict[str, float] | None:
        report = await usage(api, since(began) + "&group_by=worker")
        rows = {row["group"]: row["gpu_s"] for row in report["rows"]}
        return rows if rows.get("wk-3") == 40.0 else None

    rows = await eventually(shown)
    assert rows is not None
    assert rows["wk-2"] == 20.0
    assert 2000.0 <= rows["wk-1"] < 2060.0


async def test_a_product_without_a_price_makes_the_cost_unknown(api: ApiServer) -> None:
    began = CLOCK.utc() - DAY
    await ended(api, "wk-1", began, 100)
    await ended(api, "wk-2", began, 100, gpu_product="unheard-of")
    report = await usage(api, since(began) + "&group_by=product")
    assert {row["group"]: row["cost"] for row in report["rows"]} == {
        "rtx-4090-24gb": 0.01,
        "unheard-of": None,
    }
    assert report["total"]["cost"] is None


@pytest.mark.parametrize("n", [0, 1, 3, 6, 7])
async def test_as_many_batches_are_read_as_there_are(api: ApiServer, n: int) -> None:
    began = CLOCK.utc() - DAY
    for number in range(n):
        await ended(api, f"wk-{number}", began, 1)
    read = [record.worker_id async for record in UsageReader(api.bus, batch=3).read(began)]
    assert read == [f"wk-{number}" for number in range(n)]


async def test_as_csv(api: ApiServer) -> None:
    began = CLOCK.utc() - DAY
    await ended(api, "wk-1", began, 100, app_name='ec"ho,')
    assert api._session is not None
    headers = {"Accept": "text/csv", "Authorization": "Bearer admin-key-of-the-tests-0123456789"}
    path = f"{api.url}/v1/usage{since(began)}&group_by=endpoint"
    async with api._session.get(path, headers=headers) as answer:
        assert answer.content_type == "text/csv"
        rows = list(csv.reader(io.StringIO(await answer.text())))
    assert rows == [
        ["group", "name", "workers", "worker_s", "gpu_s", "cost"],
        ["ep-1", 'ec"ho,', "1", "100.0", "100.0", "0.01"],
    ]


@pytest.mark.parametrize(
    "query",
    [
        "?from=yesterday",
        "?from=2030-01-01T00:00",
        "?group_by=colour",
        "?form=2030-01-01",
        "?from=9999-01-01",
    ],
)
async def test_a_query_that_means_nothing_is_refused(api: ApiServer, query: str) -> None:
    answer = await api.ask("GET", f"/v1/usage{query}")
    assert (answer.status, answer.document["reason"]) == (400, "bad_query")


async def test_without_any_record_the_report_is_empty(api: ApiServer) -> None:
    report = await usage(api)
    assert report["rows"] == []
    now = CLOCK.utc()
    assert report["from"].startswith(f"{now:%Y-%m}-01T00:00:00")
