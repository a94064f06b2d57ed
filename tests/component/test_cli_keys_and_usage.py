"""`penstock key` and `penstock usage` against a real api."""

import json
from datetime import timedelta

from penstock_common import subjects
from penstock_common.messages import UsageRecord
from tests.component.test_cli_commands import Penstock, penstock
from tests.support.api_server import CLOCK

__all__ = ["penstock"]


async def test_a_key_lives_its_life(penstock: Penstock) -> None:  # the fixture
    made = await penstock("key", "create", "ours", "--max-gpus", "4", "--max-workers", "2")
    assert made.code == 0
    told, key = made.out.splitlines()
    key_id = told.split()[1].rstrip(";")
    assert len(key) == 43
    listed = (await penstock("key", "list")).out.splitlines()
    assert listed[2].split()[:9] == [key_id, "ours", "deploy", "0", "of", "2", "0", "of", "4"]
    assert (await penstock("key", "update", key_id, "--max-workers", "-1")).code == 0
    shown = json.loads((await penstock("key", "list", "--json")).out)["api_keys"][1]
    assert (shown["max_workers"], shown["max_gpus"]) == (None, 4)
    assert (await penstock("key", "revoke", key_id)).out == f"revoked {key_id}\n"
    again = await penstock("key", "revoke", key_id)
    assert (again.code, "no API key" in again.err) == (1, True)


async def test_usage_is_shown_as_table_csv_and_json(penstock: Penstock) -> None:
    began = CLOCK.utc() - timedelta(days=1)
    record = UsageRecord(
        worker_id="wk-1",
        endpoint_id="ep-1",
        app_name="echo",
        node_id="node-a",
        gpu_product="rtx-4090-24gb",
        gpus=2,
        began_at=began,
        ended_at=began + timedelta(seconds=90),
    )
    await penstock.api.bus.store(subjects.usage("wk-1"), record.encode())
    times = ("--from", began.isoformat(), "--by", "product")
    table = (await penstock("usage", *times)).out.splitlines()
    assert table[1].split() == ["PRODUCT", "NAME", "WORKERS", "WORKER-S", "GPU-S", "GPU-H", "COST"]
    assert table[2].split() == ["rtx-4090-24gb", "-", "1", "90.0", "180.0", "0.050", "-"]
    assert table[3].split() == ["total", "1", "90.0", "180.0", "0.050", "-"]
    as_csv = (await penstock("usage", *times, "--csv")).out.splitlines()
    assert as_csv == ["group,name,workers,worker_s,gpu_s,cost", "rtx-4090-24gb,,1,90.0,180.0,"]
    report = json.loads((await penstock("usage", *times, "--json")).out)
    assert report["total"]["gpu_s"] == 180.0
    wrong = await penstock("usage", "--from", "tomorrow")
    assert (wrong.code, "from is a date" in wrong.err) == (1, True)
