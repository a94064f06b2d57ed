"""The disk with the data directory fills, and empties: warm traffic goes on, then everything does."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, eventually
from tests.support.small_disk import fill, small_disk

WORKER = "python3 tests/support/gauge_worker.py"
SIZE_MIB = 160
pytestmark = [pytest.mark.nats, pytest.mark.slow]


class Site:
    """An installation under load, and what clients saw."""

    def __init__(self, penstock: Installation) -> None:
        self.penstock = penstock
        self.answers: Counter[int] = Counter()
        self._renames = 0

    async def load(self) -> None:
        """One client of the warm worker, for ever."""
        while True:
            status, _ = await self.penstock.get("warm", "/?ms=1")
            self.answers[status] += 1
            await asyncio.sleep(0.02)

    async def rename(self) -> int:
        """Change the endpoint so that its record grows by pages; gives the status."""
        self._renames += 1
        document = {"env": {"PADDING": "x" * 4096, "N": str(self._renames)}}
        url = f"{self.penstock.urls['api']}/v1/endpoints/idle"
        async with self.penstock.session.patch(url, json=document) as answer:
            return answer.status

    async def refused(self) -> bool:
        return await self.rename() == 503

    async def taken(self) -> bool:
        return await self.rename() == 200

    async def answered(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answers.total() + count

        async def enough() -> bool:
            return self.answers.total() >= wanted

        await eventually(enough, f"{count} more answers", within_s=60)


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    async with Installation(folder, "--runtime", "process", "--gpus", "none") as penstock:
        made = Site(penstock)
        workers = {"min": 1, "max": 1, "max_concurrency": 4}
        await penstock.deploy("warm", WORKER, workers=workers)
        await penstock.deploy("idle", WORKER, workers={"min": 0, "max": 1})
        assert (await penstock.get("warm", "/?ms=1"))[0] == 200
        loading = asyncio.create_task(made.load())
        yield made
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading


async def test_a_full_disk_stops_no_warm_request_and_is_got_over(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", SIZE_MIB) as disk:
        async with site(disk) as made:
            await fills_and_empties(made, disk)


async def fills_and_empties(made: Site, disk: Path) -> None:
    penstock = made.penstock
    filler = fill(disk)
    await eventually(made.refused, "a change is refused", within_s=60)
    await made.answered(20)

    async def dropped() -> bool:
        return "lines are dropped" in penstock.log_text()

    await eventually(dropped, "lines of logs are dropped", within_s=60)
    os.kill(penstock.child_pid("nats"), signal.SIGKILL)
    await made.answered(100)

    filler.unlink()
    await eventually(made.taken, "a change is taken", within_s=60)
    assert (await penstock.get("idle", "/?ms=1"))[0] == 200
    await made.answered(20)
    assert set(made.answers) == {200}, made.answers
    logs = "".join(log.read_text() for log in (disk / "logs").glob("*.log"))
    assert "lines of this log could not be written" in logs
