"""A key with a quota, and the bill: end to end, with GPUs of an operator's list."""

from pathlib import Path
from typing import Any

import pytest

from penstock_client.client import PenstockClient
from tests.e2e.test_stories import GAUGE
from tests.support.installation import Installation, eventually

pytestmark = [pytest.mark.slow, pytest.mark.nats]


def gauge(app: str) -> dict[str, Any]:
    return {
        "app_name": app,
        "image": {"command": GAUGE},
        "gpu": {"count": 1},
        "workers": {"min": 1, "max": 2},
    }


async def test_a_key_holds_no_more_than_its_quota_and_its_use_is_counted(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "4 x rtx-4090-24gb")
    env = {
        "PENSTOCK_API_GPU_PRICES": "rtx-4090-24gb=3600",
        "PENSTOCK_ROUTER_NO_CAPACITY_WAIT_S": "0.5",
    }
    async with Installation(tmp_path / "data", *options, env=env) as penstock:
        quota = {"name": "team", "scope": "deploy", "max_gpus": 1}
        made = await penstock.api("POST", "/v1/api-keys", quota)
        async with PenstockClient(penstock.urls["api"], made["key"]) as team:
            first = await team.endpoints.create(gauge("first"))
            await team.endpoints.wait_until_serving("first", timeout_s=60)
            await team.endpoints.create(gauge("second"))

            async def refused() -> bool:
                status, problem = await penstock.get("second", "/")
                return status == 503 and problem["reason"] == "quota_exceeded"

            await eventually(refused, "the second endpoint has no quota left")
            told = f"API key {made['id']} (team) may hold 1 GPU and holds 1"

            async def says_why() -> bool:  # the router may know it before the api does
                return (await team.endpoints.show("second")).message == told

            await eventually(says_why, told)

            await team.endpoints.pause("first")
            await team.endpoints.wait_until_serving("second", timeout_s=60)
            assert await penstock.workers("first") == []
            report = await team.usage.show(group_by="endpoint")
        rows = {row.name: row for row in report.rows}
        assert rows["first"].group == first.id
        for row in rows.values():
            assert row.workers == 1
            assert row.gpu_s > 0
            assert row.cost == pytest.approx(row.gpu_s, abs=1e-5)
        by_key = await penstock.api("GET", "/v1/usage?group_by=key")
        assert [row["group"] for row in by_key["rows"]] == [made["id"]]
        assert by_key["total"]["gpu_s"] >= report.total.gpu_s
