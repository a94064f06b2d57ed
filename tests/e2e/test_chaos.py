"""Parts killed at random, again and again, under load: nothing is lost, nothing is left behind."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.support.installation import (
    CLOCK,
    ROOT,
    Installation,
    eventually,
    processes_with,
)

PARTS = ("scheduler", "api", "nats", "node-agent")
SECONDS = 25.0
pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.timeout(400)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_requests_are_answered_whatever_part_is_killed(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    # A program of its own, by which its workers are told from those of tests at the same time.
    program = shutil.copy(ROOT / "tests/support/gauge_worker.py", tmp_path / "gauge.py")
    command = f"{sys.executable} {program}"
    options = ("--runtime", "process", "--gpus", "none")
    # On a busy machine the only node's agent may take longer to come back than its record lives.
    patience = {"PENSTOCK_ROUTER_NO_CAPACITY_WAIT_S": "60"}
    async with Installation(tmp_path / "data", *options, env=patience) as penstock:
        await penstock.deploy("warm", command, workers={"min": 1, "max": 1, "max_concurrency": 8})
        await penstock.deploy(
            "bursty",
            command,
            workers={"min": 0, "max": 2, "max_concurrency": 2, "idle_timeout_s": 1},
            scaling={"type": "request_count", "value": 2},
        )
        await penstock.get("warm", "/")
        ended = asyncio.Event()
        statuses: dict[str, Counter[int]] = {"warm": Counter(), "bursty": Counter()}
        most = 0

        async def warm_load() -> None:
            while not ended.is_set():
                status, _ = await penstock.get("warm", "/?ms=2")
                statuses["warm"][status] += 1
                await asyncio.sleep(0.01)

        async def bursty_load() -> None:
            nonlocal most
            while not ended.is_set():
                answers = await asyncio.gather(
                    *(penstock.get("bursty", "/?ms=20") for _ in range(12))
                )
                statuses["bursty"].update(status for status, _ in answers)
                most = max([most, *(b["most_in_flight"] for s, b in answers if s == 200)])
                await asyncio.sleep(rng.uniform(0.0, 2.5))  # sometimes long enough to fall idle

        async def killing() -> None:
            deadline = CLOCK.monotonic() + SECONDS
            while CLOCK.monotonic() < deadline:
                await asyncio.sleep(rng.uniform(0.3, 2.0))
                name = rng.choice(PARTS)
                # It may be between two lives: its number not told any more, or nobody's.
                with contextlib.suppress(KeyError, ProcessLookupError):
                    os.kill(penstock.child_pid(name), signal.SIGKILL)
            ended.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(warm_load())
            group.create_task(bursty_load())
            group.create_task(killing())

        assert set(statuses["warm"]) == {200}, statuses
        assert set(statuses["bursty"]) == {200}, statuses
        assert most <= 2

        async def settled() -> bool:
            try:
                return (
                    not await penstock.workers("bursty")
                    and len(await penstock.workers("warm")) == 1
                )
            except (OSError, aiohttp.ClientError, AssertionError):
                return False

        await eventually(settled, "one worker of warm, none of bursty", within_s=120)
        assert len(processes_with(str(program))) == 1
    assert not processes_with(str(program))
