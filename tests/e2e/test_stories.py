"""The main job, end to end, through `penstock up` with the process runtime."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.installation import ROOT, Installation, eventually, processes_with

ECHO = f"{sys.executable} {ROOT}/examples/openai_echo/server.py"
GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.nats]


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Installation]:
    async with Installation(tmp_path / "data", "--runtime", "process", "--gpus", "none") as running:
        yield running


def client(penstock: Installation, app: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{penstock.urls['router']}/{app}/v1", api_key=penstock.key, max_retries=0
    )


async def test_a_request_at_zero_workers_is_answered_and_the_fleet_falls_idle(
    penstock: Installation,
) -> None:
    made = await penstock.deploy("echo", ECHO, workers={"min": 0, "max": 2, "idle_timeout_s": 300})
    assert made["url"] == f"{penstock.urls['router']}/echo"
    assert await penstock.workers("echo") == []

    async with client(penstock, "echo") as openai_client:
        answer = await openai_client.chat.completions.create(
            model="echo-1", messages=[{"role": "user", "content": "hello at zero"}]
        )
        assert answer.choices[0].message.content == "You said: hello at zero"

        async def runs() -> list[dict[str, Any]]:  # the router may know it before the api does
            workers = await penstock.workers("echo")
            return workers if [w["state"] for w in workers] == ["running"] else []

        (worker,) = await eventually(runs, "the one worker runs")
        phases = worker["phases_ms"]
        reached = ["decided", "assigned", "received", "created", "started", "listening", "healthy"]
        assert set(reached) <= set(phases)

        stream = await openai_client.chat.completions.create(
            model="echo-1", messages=[{"role": "user", "content": "a b c"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream]
        assert "".join(word or "" for word in words) == "You said: a b c"
        assert len(words) > 3

    assert (await penstock.api("GET", "/v1/endpoints/echo"))["state"] == "serving"
    # Not idle for so long before: the worker is looked at above.
    await penstock.api("PATCH", "/v1/endpoints/echo", {"workers": {"idle_timeout_s": 1}})
    await penstock.no_workers("echo")
    assert (await penstock.api("GET", "/v1/endpoints/echo"))["state"] == "serving"


@pytest.mark.parametrize("routers", [1, 2])
async def test_a_hundred_at_once_never_see_more_than_their_slots(
    tmp_path: Path, routers: int
) -> None:
    options = ("--runtime", "process", "--gpus", "none", "--router-workers", str(routers))
    async with Installation(tmp_path / "data", *options) as penstock:
        await penstock.deploy(
            "gauge",
            GAUGE,
            workers={"min": 0, "max": 2, "max_concurrency": 2, "idle_timeout_s": 1},
            scaling={"type": "request_count", "value": 2},
        )
        gate = tmp_path / "gate"
        paths = [f"/work?ms=50&n={n}&until={gate}" for n in range(100)]
        asked = [asyncio.create_task(penstock.get("gauge", path)) for path in paths]

        async def all_slots_are_taken() -> bool:
            return [w["in_flight"] for w in await penstock.workers("gauge")] == [2, 2]

        # Else one might have served all before the other, on a busy machine, has started.
        await eventually(all_slots_are_taken, "both workers have two requests in flight")
        gate.touch()
        answers = await asyncio.gather(*asked)
        assert [status for status, _ in answers] == [200] * 100
        assert {body["path"] for _, body in answers} == set(paths)
        assert max(body["most_in_flight"] for _, body in answers) == 2
        assert len({body["worker"] for _, body in answers}) == 2
        await penstock.no_workers("gauge")


async def test_who_waits_for_the_only_gpus_worker_is_answered_when_it_has_started(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    options = ("--runtime", "process", "--gpus", "1 x rtx-4090-24gb")
    patience = {"PENSTOCK_ROUTER_NO_CAPACITY_WAIT_S": "0.1"}
    async with Installation(tmp_path / "data", *options, env=patience) as penstock:
        await penstock.deploy(
            "slow",
            f"sh -c 'until [ -e {gate} ]; do sleep 0.05; done; exec {GAUGE}'",
            gpu={"count": 1, "products": ["rtx-4090-24gb"]},
            workers={"min": 0, "max": 2, "max_concurrency": 1},
            scaling={"type": "request_count", "value": 1},
        )
        asked = [asyncio.create_task(penstock.get("slow", "/")) for _ in range(4)]

        async def lacks_a_second_gpu() -> bool:
            shown = await penstock.api("GET", "/v1/endpoints/slow")
            return (shown["reason"], shown["workers_starting"]) == ("no_capacity", 1)

        await eventually(lacks_a_second_gpu, "the second worker has no place")
        await asyncio.wait(asked, timeout=1.5)  # longer than a request waits for a first place
        assert not any(task.done() for task in asked)
        gate.touch()
        assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 4


async def test_an_endpoint_that_is_deleted_takes_its_workers_with_it(
    penstock: Installation, tmp_path: Path
) -> None:
    # A program of its own, by which its worker is told from those of tests at the same time.
    program = shutil.copy(ROOT / "tests/support/gauge_worker.py", tmp_path / "gauge.py")
    await penstock.deploy("gauge", f"{sys.executable} {program}", workers={"min": 1, "max": 1})
    status, _ = await penstock.get("gauge", "/")
    assert status == 200
    await penstock.api("DELETE", "/v1/endpoints/gauge")

    async def gone() -> bool:
        answer = await penstock.api("GET", "/v1/endpoints")
        return not (answer["endpoints"] if isinstance(answer, dict) else answer)

    await eventually(gone, "the endpoint is gone")
    assert not processes_with(str(program))

    async def unknown() -> bool:
        # The router hears of the record's end in the same moment as the api, not before it.
        status, _ = await penstock.get("gauge", "/")
        return status == 404

    await eventually(unknown, "the router knows it no more")


async def test_a_command_that_crashes_fails_the_request_with_its_last_words(
    penstock: Installation,
) -> None:
    await penstock.deploy("broken", "sh -c 'echo no model here >&2; exit 7'")

    async def failed() -> dict[str, Any] | None:
        """The endpoint while its next try is put off; each try that fails puts it off longer."""
        status, problem = await penstock.get("broken", "/")
        assert status == 503
        assert problem["reason"] == "crash_backoff"
        shown: dict[str, Any] = await penstock.api("GET", "/v1/endpoints/broken")
        return shown if shown["state"] == "failed" else None

    shown = await eventually(failed, "the endpoint has failed")
    assert "7" in shown["message"]


async def test_a_new_revision_takes_over_without_a_failed_request(penstock: Installation) -> None:
    await penstock.deploy("gauge", GAUGE, workers={"min": 1, "max": 1, "max_concurrency": 4})
    status, before = await penstock.get("gauge", "/")
    assert status == 200, before
    stop = asyncio.Event()
    answers: list[tuple[int, dict[str, str]]] = []

    async def load() -> None:
        while not stop.is_set():
            answers.append(await penstock.get("gauge", "/?ms=5"))

    async def taken_over() -> bool:
        workers = await penstock.workers("gauge")
        return [w["revision"] for w in workers] == [2] and workers[0]["state"] == "running"

    async with asyncio.TaskGroup() as group:
        group.create_task(load())
        await penstock.api("PATCH", "/v1/endpoints/gauge", {"env": {"COLOUR": "blue"}})
        await eventually(taken_over, "revision 2 runs alone")
        stop.set()
    assert [answer for answer in answers if answer[0] != 200] == []
    status, after = await penstock.get("gauge", "/")
    assert status == 200, after
    assert after["worker"] != before["worker"]
