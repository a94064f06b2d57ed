"""New revisions under steady traffic, through `penstock up`: taken over, and rolled back."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.installation import ROOT, Installation, eventually
from tests.support.traffic import RATE_PER_S, enough, traffic

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.nats]


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Installation]:
    async with Installation(tmp_path / "data", "--runtime", "process", "--gpus", "none") as running:
        await running.deploy("gauge", GAUGE, workers={"min": 2, "max": 2, "max_concurrency": 8})
        yield running


async def of_revision(penstock: Installation, revision: int) -> list[str]:
    """The workers that run, when all are of this revision."""
    workers = await penstock.workers("gauge")
    whole = len(workers) == 2 and all(
        (w["revision"], w["state"]) == (revision, "running") for w in workers
    )
    return sorted(w["id"] for w in workers) if whole else []


async def test_a_rolling_update_fails_no_request(penstock: Installation) -> None:
    before = await eventually(lambda: of_revision(penstock, 1), "two workers run")
    async with traffic(penstock) as statuses:
        await enough(statuses, RATE_PER_S)
        await penstock.api("PATCH", "/v1/endpoints/gauge", {"env": {"COLOUR": "blue"}})
        after = await eventually(
            lambda: of_revision(penstock, 2), "revision 2 has taken over", within_s=60
        )
        await enough(statuses, len(statuses) + RATE_PER_S)
    assert not set(before) & set(after)
    assert set(statuses) == {200}


async def test_a_broken_revision_rolls_back_and_fails_no_request(penstock: Installation) -> None:
    before = await eventually(lambda: of_revision(penstock, 1), "two workers run")

    async def rolled_back() -> bool:
        shown = await penstock.api("GET", "/v1/endpoints/gauge")
        return (shown["revision"], shown["state"]) == (3, "serving")

    async with traffic(penstock) as statuses:
        await enough(statuses, RATE_PER_S)
        broken = {"image": {"command": "sh -c 'echo no model here >&2; exit 7'"}}
        await penstock.api("PATCH", "/v1/endpoints/gauge", broken)
        await eventually(rolled_back, "rolled back", within_s=60)
        await enough(statuses, len(statuses) + RATE_PER_S)
    assert set(statuses) == {200}

    shown = await penstock.api("GET", "/v1/endpoints/gauge")
    assert shown["image"]["command"] == GAUGE
    assert shown["reason"] == "rolled_back"
    assert "revision 2 could not start" in shown["message"]
    listed = await penstock.api("GET", "/v1/endpoints/gauge/revisions")
    assert [r["cause"] for r in listed["revisions"]] == ["rolled_back", "updated", "created"]

    async def as_before() -> bool:
        workers = await penstock.workers("gauge")
        return sorted(w["id"] for w in workers if w["desired"] == "running") == before

    await eventually(as_before, "the workers of before run, and no other is wanted")


async def test_an_update_on_the_only_gpu_fails_nobody_who_waits_for_it(tmp_path: Path) -> None:
    patience = {"PENSTOCK_ROUTER_NO_CAPACITY_WAIT_S": "0.1"}
    options = ("--runtime", "process", "--gpus", "1 x rtx-4090-24gb")
    async with Installation(tmp_path / "data", *options, env=patience) as penstock:
        await penstock.deploy(
            "gauge",
            GAUGE,
            gpu={"count": 1, "products": ["rtx-4090-24gb"]},
            workers={"min": 1, "max": 1, "max_concurrency": 1},
        )
        status, _ = await penstock.get("gauge", "/")
        assert status == 200
        gate = tmp_path / "gate"
        long = asyncio.create_task(penstock.get("gauge", f"/?until={gate}"))

        async def serves() -> bool:
            return [w["in_flight"] for w in await penstock.workers("gauge")] == [1]

        await eventually(serves, "the old worker serves the long request")
        await penstock.api("PATCH", "/v1/endpoints/gauge", {"env": {"A": "2"}})

        async def drains() -> bool:
            return bool((await penstock.api("GET", "/v1/endpoints/gauge"))["workers_draining"])

        await eventually(drains, "the old worker gives way")
        asked = [asyncio.create_task(penstock.get("gauge", "/")) for _ in range(3)]

        async def all_wait() -> bool:
            shown = await penstock.api("GET", "/v1/endpoints/gauge")
            return bool(shown["load"]["waiting"] == 3) or any(task.done() for task in asked)

        await eventually(all_wait, "three wait for its place")
        assert not any(task.done() for task in asked)
        gate.touch()
        answers = await asyncio.gather(long, *asked)
        assert [status for status, _ in answers] == [200] * 4
        workers = {answer["worker"] for _, answer in answers}
        assert len(workers) == 2
