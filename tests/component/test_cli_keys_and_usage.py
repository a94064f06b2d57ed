"""`penstock key` and `penstock usage` against a real api."""

import json
from datetime import datetime, timedelta
from typing import Any

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
    assert listed[2].split()[-1] == "never"
    assert (await penstock("key", "update", key_id, "--max-workers", "-1")).code == 0
    shown = json.loads((await penstock("key", "list", "--json")).out)["api_keys"][1]
    assert (shown["max_workers"], shown["max_gpus"]) == (None, 4)
    assert (await penstock("key", "revoke", key_id)).out == f"revoked {key_id}\n"
    again = await penstock("key", "revoke", key_id)
    assert (again.code, "no API key" in again.err) == (5, True)


async def test_a_key_expires_and_gets_another_secret(penstock: Penstock) -> None:
    made = await penstock("key", "create", "ours", "--scope", "read", "--expires-in", "30d")
    key_id = made.out.split()[1].rstrip(";")

    async def shown() -> dict[str, Any]:
        keys = json.loads((await penstock("key", "list", "--json")).out)["api_keys"]
        found: dict[str, Any] = next(key for key in keys if key["id"] == key_id)
        return found

    expires_at = datetime.fromisoformat((await shown())["expires_at"])
    assert timedelta(days=29) < expires_at - CLOCK.utc() <= timedelta(days=30)
    assert f"{expires_at:%Y-%m-%d %H:%M}" in (await penstock("key", "list")).out
    assert (await penstock("key", "update", key_id, "--never-expires")).code == 0
    assert (await shown())["expires_at"] is None
    wrong = await penstock("key", "update", key_id, "--expires-in", "soon")
    assert (wrong.code, "30d" in wrong.err) == (2, True)

    rotated = await penstock("key", "rotate", key_id, "--keep-old", "1h")
    told, secret = rotated.out.splitlines()
    assert "opens until" in told
    for key in (made.out.splitlines()[1], secret):
        assert (await penstock.api.ask("GET", "/v1/nodes", key=key)).status == 200
    assert "opens nothing any more" in (await penstock("key", "rotate", key_id)).out
    assert (await penstock.api.ask("GET", "/v1/nodes", key=secret)).status == 401


async def test_who_changed_what_is_shown(penstock: Penstock) -> None:
    await penstock.api.create("echo", env={"COLOUR": "blue"})
    await penstock.api.ask("PATCH", "/v1/endpoints/echo", {"env": {"COLOUR": "green"}})
    await penstock.api.ask("POST", "/v1/endpoints/echo/abort")
    rows = (await penstock("audit", "echo")).out.splitlines()
    assert [row.split()[4] for row in rows[1:]] == [
        "endpoints_abort",
        "endpoints_update",
        "endpoints_create",
    ]
    assert "409 no_canary" in rows[1]
    assert '/env/COLOUR "blue" → "green"' in rows[2]
    found = json.loads((await penstock("audit", "--last", "1", "--json")).out)["records"]
    assert [record["action"] for record in found] == ["endpoints_abort"]
    some = await penstock("audit", "--key", "key-admin", "--action", "endpoints_update")
    assert len(some.out.splitlines()) == 2
    assert (await penstock("audit", "--since", "soon")).code == 1


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
