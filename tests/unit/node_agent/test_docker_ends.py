"""Ends of containers, where the engine tells late why."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock_node_agent.runtimes.docker import ends
from penstock_node_agent.runtimes.docker.ends import ContainerEnds
from penstock_node_agent.runtimes.protocol import Exit

if TYPE_CHECKING:
    from penstock_node_agent.runtimes.docker.calls import EngineCalls
    from penstock_node_agent.runtimes.docker.watch import EngineWatch

WORKER = "wk-1"


class FakeEngine:
    """Passes for the calls of an engine whose container has been killed."""

    client = None

    async def for_worker(self, _worker_id: str, _call: Callable[[], object]) -> Mapping[str, Any]:
        return {"State": {"Status": "exited", "ExitCode": 137, "OOMKilled": False}}


class FakeWatch:
    """Passes for the watch of an engine that runs on."""

    async def ended_with_engine(self, _inspected: Mapping[str, Any]) -> bool:
        return False


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> ContainerEnds:
    monkeypatch.setattr(ends, "_OOM_WORD_S", 0.05)
    made = ContainerEnds(
        cast("EngineCalls", FakeEngine()), cast("EngineWatch", FakeWatch()), lambda _: None
    )
    made.note(WORKER)
    return made


async def test_the_kernels_word_may_come_before_the_end(containers: ContainerEnds) -> None:
    containers.note_oom(WORKER)
    assert await containers.wait(WORKER) == Exit(137, oom_killed=True)


async def test_the_kernels_word_may_come_behind_the_end(
    containers: ContainerEnds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_OOM_WORD_S", 30.0)
    waiting = asyncio.create_task(containers.wait(WORKER))
    await asyncio.sleep(0)
    containers.look_at(WORKER)
    await asyncio.sleep(0)
    assert not waiting.done()
    containers.note_oom(WORKER)
    assert await waiting == Exit(137, oom_killed=True)


async def test_who_is_killed_by_somebody_else_is_not_short_of_memory(
    containers: ContainerEnds,
) -> None:
    assert await containers.wait(WORKER) == Exit(137)


async def test_a_word_about_a_worker_that_is_gone_is_forgotten(containers: ContainerEnds) -> None:
    containers.note_oom(WORKER)
    containers.forget(WORKER)
    containers.note(WORKER)
    assert await containers.wait(WORKER) == Exit(137)
