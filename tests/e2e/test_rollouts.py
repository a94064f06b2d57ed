"""New revisions under steady traffic, through `penstock up`: taken over, and rolled back."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.installation import CLOCK, ROOT, Installation, eventually

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
RATE_PER_S = 50
pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.timeout(180)]


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


@asynccontextmanager
async def traffic(penstock: Installation) -> AsyncIterator[list[int]]:
    """About 50 requests a second, each sent when it is due; gives their statuses as they come."""
    statuses: list[int] = []
    stop = asyncio.Event()

    async def one() -> None:
        status, _ = await penstock.get("gauge", "/?ms=20")
        statuses.append(status)

    async def generate(group: asyncio.TaskGroup) -> None:
        started, n = CLOCK.monotonic(), 0
        while not stop.is_set():
            group.create_task(one())
            n += 1
            await asyncio.sleep(max(0.0, started + n / RATE_PER_S - CLOCK.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(generate(group))
        try:
            yield statuses
        finally:
            stop.set()


async def enough(statuses: list[int], n: int) -> None:
    """Wait for so many answers in all."""

    async def there() -> bool:
        return len(statuses) >= n

    await eventually(there, f"{n} answers", within_s=30)


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
    workers = await penstock.workers("gauge")
    assert sorted(w["id"] for w in workers if w["desired"] == "running") == before
