"""`penstock worker stop`: requests in flight finish, another worker takes over."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.installation import PENSTOCK, ROOT, Installation, eventually

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.nats]


class HeldRequest:
    """A request to the gauge that is in flight until `release`: its body has not ended."""

    def __init__(self, penstock: Installation) -> None:
        self._penstock = penstock
        self._released = asyncio.Event()
        self.answer = asyncio.create_task(self._ask())

    def release(self) -> None:
        self._released.set()

    async def _ask(self) -> tuple[int, str | None]:
        """Status, and the worker that answered."""

        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            await self._released.wait()
            yield b"b"

        url = f"{self._penstock.urls['router']}/gauge/work"
        headers = {"Content-Length": "2"}
        async with self._penstock.session.post(url, data=body(), headers=headers) as answer:
            document = await answer.json(content_type=None)
            return answer.status, document.get("worker")


async def command(penstock: Installation, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        PENSTOCK,
        *words,
        "--data",
        str(penstock.data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")},
    )


async def running(penstock: Installation, *, but: str = "") -> str:
    """The worker that runs, and is not this one."""

    async def one_runs() -> str | None:
        for worker in await penstock.workers("gauge"):
            if worker["state"] == "running" and worker["id"] != but:
                return str(worker["id"])
        return None

    return await eventually(one_runs, "another worker runs")


async def hold(penstock: Installation, worker: str) -> HeldRequest:
    """A request that is in flight at this worker."""
    held = HeldRequest(penstock)

    async def is_held() -> bool:
        shown = await penstock.api("GET", f"/v1/workers/{worker}")
        return bool(shown["in_flight"] == 1)

    await eventually(is_held, f"{worker} has a request in flight")
    return held


async def test_a_worker_is_stopped_by_hand(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "none")
    async with Installation(tmp_path / "data", *options) as penstock:
        await penstock.deploy("gauge", GAUGE, workers={"min": 1, "max": 1})
        first = await running(penstock)
        held = await hold(penstock, first)
        stop = await command(penstock, "worker", "stop", first, "--reason", "hangs", "--wait")
        waiting = asyncio.create_task(stop.communicate())

        # The next one takes over while the first has a request in flight.
        second = await running(penstock, but=first)

        async def is_served_by_the_second() -> bool:  # the router may hear of it after the api
            status, answer = await penstock.get("gauge", "/")
            assert status == 200
            return bool(answer["worker"] == second)

        await eventually(is_served_by_the_second, f"{second} serves")
        shown = await penstock.api("GET", f"/v1/workers/{first}")
        assert (shown["desired"], shown["order"]["reason"]) == ("draining", "hangs")
        assert (shown["reason"], shown["in_flight"]) == ("stop_ordered", 1)
        assert not waiting.done()

        held.release()
        assert await held.answer == (200, first)
        out, err = await waiting
        assert (stop.returncode, err.decode()) == (0, "")
        assert out.decode().splitlines()[-1] == f"{first} is gone"

        async def is_well() -> bool:
            endpoint = await penstock.api("GET", "/v1/endpoints/gauge")
            return (endpoint["state"], endpoint["reason"]) == ("serving", None)

        await eventually(is_well, "the endpoint serves as before")

        # With --now nothing is waited for.
        held = await hold(penstock, second)
        stop = await command(penstock, "worker", "stop", second, "--now", "--wait")
        out, err = await stop.communicate()
        assert (stop.returncode, err.decode()) == (0, "")
        held.release()
        try:
            status, _ = await held.answer
        except aiohttp.ClientError:
            status = 502  # its connection was broken while it sent
        assert status == 502
        await running(penstock, but=second)
