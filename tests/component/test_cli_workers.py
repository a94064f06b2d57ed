"""`penstock worker` against a real api, with the other services played."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common.states import WorkerState
from tests.component.test_api_workers import assign
from tests.component.test_cli_commands import Penstock
from tests.support.api_server import running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def penstock(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with running_api(nats_server, tmp_path / "api") as api:
        made = await api.create("echo")
        await assign(api, 1, made["id"], "node-a", WorkerState.RUNNING)
        await assign(api, 2, "ep-gone", "node-b")
        yield Penstock(api, tmp_path)


async def test_workers_are_listed_and_shown(penstock: Penstock) -> None:
    lines = (await penstock("worker", "list")).out.splitlines()[1:]
    assert [line.split()[:3] for line in lines] == [
        ["wk-1", "echo", "running"],
        ["wk-2", "ep-gone", "pending"],
    ]
    listed = await penstock("worker", "list", "--node", "node-b", "--state", "pending", "--json")
    assert [worker["id"] for worker in json.loads(listed.out)["workers"]] == ["wk-2"]
    shown = (await penstock("worker", "show", "wk-2")).out
    assert "ep-gone (gone)" in shown
    missing = await penstock("worker", "show", "wk-9")
    assert (missing.code, "there is no worker 'wk-9'" in missing.err) == (5, True)


async def test_a_worker_is_ordered_to_stop(penstock: Penstock) -> None:
    wrong = await penstock("worker", "stop", "wk-1", "--now", "--deadline", "5")
    assert (wrong.code, "give one of them" in wrong.err) == (2, True)
    stopped = await penstock("worker", "stop", "wk-1", "--reason", "hangs", "--deadline", "60")
    assert (stopped.code, stopped.out) == (0, "wk-1 stops\n")
    shown = (await penstock("worker", "show", "wk-1")).out
    order = next(line for line in shown.splitlines() if line.startswith("ordered to stop"))
    assert order.endswith("at the latest: hangs")
    waited = await penstock("worker", "stop", "wk-1", "--wait", "--wait-timeout", "0.2")
    assert (waited.code, "wk-1' is still there" in waited.err) == (4, True)
