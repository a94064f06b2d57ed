"""Ends of containers, where the engine tells late why."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock_node_agent.runtimes import oom_kills
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


def ends_of(*, local: bool) -> ContainerEnds:
    made = ContainerEnds(
        cast("EngineCalls", FakeEngine()),
        cast("EngineWatch", FakeWatch()),
        lambda _: None,
        local=local,
    )
    made.note(WORKER)
    return made


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> ContainerEnds:
    """Of an engine whose machine's kernel cannot be asked."""
    monkeypatch.setattr(ends, "_OOM_WORD_S", 0.05)
    return ends_of(local=False)


class Kernel:
    """Counts what it kills for memory; None = it does not say."""

    def __init__(self) -> None:
        self.kills: int | None = 7


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(oom_kills, "oom_kill_count", lambda: made.kills)
    return made


async def test_an_engine_that_never_heard_of_it_is_not_needed(kernel: Kernel) -> None:
    here = ends_of(local=True)
    kernel.kills = 8
    here.tick()  # a look at the machine between the kill and its word
    assert await here.wait(WORKER) == Exit(137, oom_killed=True)


async def test_what_was_killed_long_ago_was_another(kernel: Kernel) -> None:
    here = ends_of(local=True)
    kernel.kills = 8
    for _ in range(15):
        here.tick()
    assert await here.wait(WORKER) == Exit(137)


async def test_a_kernel_that_does_not_count_leaves_it_to_the_engine(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "_OOM_WORD_S", 0.05)
    kernel.kills = None
    here = ends_of(local=True)
    assert await here.wait(WORKER) == Exit(137)
    here.note_oom(WORKER)
    assert await here.wait(WORKER) == Exit(137, oom_killed=True)


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
