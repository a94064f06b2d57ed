"""The supervisor with real child processes."""

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock_cli.local.child_log import ChildLog
from penstock_cli.local.supervisor import ChildFailedError, ChildSpec, Supervisor
from penstock_common.clock import SystemClock

READY = """
import os, socket, sys, time
print("hello", flush=True)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"]); s.send(b"READY=1\\nX_URL=u")
time.sleep(60)
"""


class World:
    def __init__(
        self, supervisor: Supervisor, lines: list[str], starts: asyncio.Queue[int]
    ) -> None:
        self.supervisor = supervisor
        self.lines = lines
        self.starts = starts


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    lines: list[str] = []
    starts: asyncio.Queue[int] = asyncio.Queue()
    clock = SystemClock()
    supervisor = Supervisor(
        clock=clock,
        open_log=lambda name: ChildLog(folder / f"{name}.log", clock, lines.append),
        echo=lambda name, line: lines.append(f"{name}: {line}"),
        on_change=lambda: starts.put_nowait(max(supervisor.pids.values())),
        notify_folder=folder,
    )
    try:
        yield World(supervisor, lines, starts)
    finally:
        await supervisor.stop()


def child(name: str, code: str, *, stop_order: int = 1, grace_s: float = 2.0) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-S", "-c", code),
        env=dict(os.environ),
        stop_order=stop_order,
        stop_grace_s=grace_s,
    )


async def test_ready_children_run_and_stop_leaves_none(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.supervisor.start([child("a", READY), child("b", READY)], wait_s=60)
        pids = w.supervisor.pids
        assert set(pids) == {"a", "b"}
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert (tmp_path / "a.log").read_bytes() == b"hello\n"


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.supervisor.start([child("a", READY)], wait_s=60)
        first = w.starts.get_nowait()
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            second = await w.starts.get()
        assert second != first
        assert any("SIGKILL" in line for line in w.lines)


async def test_a_child_that_dies_quickly_again_and_again_stops_all_and_says_why(
    tmp_path: Path,
) -> None:
    code = (
        """print('{"level": "error", "message": "m", "error": "no disk"}'); raise SystemExit(3)"""
    )
    async with world(tmp_path) as w:
        with pytest.raises(
            ChildFailedError, match=r"a ended with code 3 .* 6th failed start: no disk"
        ):
            await w.supervisor.start([child("a", code)], wait_s=100)


async def test_a_misconfigured_child_is_not_tried_again(tmp_path: Path) -> None:
    code = (
        """print('{"level": "error", "message": "m", "error": "no engine"}'); raise SystemExit(2)"""
    )
    async with world(tmp_path) as w:
        with pytest.raises(ChildFailedError, match=r"^no engine$") as caught:
            await w.supervisor.start([child("a", code)], wait_s=100)
        assert caught.value.exit_code == 2
        assert w.starts.qsize() == 1


async def test_a_child_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(ChildFailedError, match="not ready after 1 s: slow"):
            await w.supervisor.start([child("slow", "import time; time.sleep(60)")], wait_s=1)


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY
    async with world(tmp_path) as w:
        await w.supervisor.start([child("deaf", code, grace_s=0.2)], wait_s=60)
        pid = w.supervisor.pids["deaf"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_its_end_is_seen_although_a_grandchild_holds_its_output(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holding = os.open(fifo, os.O_RDWR)  # who reads it reads on until this is closed
    code = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-S', '-c', {f'open({str(fifo)!r}).read()'!r}])\n"
        + READY
    )
    try:
        async with world(tmp_path) as w:
            await w.supervisor.start([child("a", code)], wait_s=60)
            os.kill(w.starts.get_nowait(), signal.SIGKILL)
            async with asyncio.timeout(60):
                assert await w.starts.get()
    finally:
        os.close(holding)


async def test_a_child_that_is_just_being_started_is_told_to_end_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def start_slowly(*argv: Any, **options: Any) -> asyncio.subprocess.Process:
        """Return only some turns after the supervisor was told to stop."""
        started.append(await start(*argv, **options))
        begun.set()
        while not w.supervisor._stopping:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        return started[-1]

    async with world(tmp_path) as w:
        await w.supervisor.start([child("a", READY)], wait_s=60)
        monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
        os.kill(w.supervisor.pids["a"], signal.SIGKILL)
        async with asyncio.timeout(60):
            await begun.wait()
    assert [process.returncode for process in started] == [-signal.SIGTERM]


async def test_a_child_that_ails_is_ended_and_started_again(tmp_path: Path) -> None:
    ails = ["it forgets everything"]

    async def ailment() -> str | None:
        return ails.pop() if ails else None

    async with world(tmp_path) as w:
        spec = dataclasses.replace(child("a", READY), ailment=ailment)
        await w.supervisor.start([spec], wait_s=60)
        first = await w.starts.get()
        async with asyncio.timeout(60):
            assert await w.starts.get() != first
        assert "a: it forgets everything" in w.lines
        assert any("ended with SIGTERM" in line for line in w.lines)


async def test_a_log_that_cannot_be_written_ends_no_child(tmp_path: Path) -> None:
    (tmp_path / "a.log").symlink_to("/dev/full")
    code = READY.replace("time.sleep(60)", "print('goes on', flush=True); time.sleep(60)")
    async with world(tmp_path) as w:
        await w.supervisor.start([child("a", code)], wait_s=60)
        async with asyncio.timeout(60):
            while "a: goes on" not in w.lines:  # noqa: ASYNC110 - nothing tells us but looking
                await asyncio.sleep(0.01)
        assert w.supervisor.pids["a"] == w.starts.get_nowait()
        assert any("lines are dropped" in line for line in w.lines)
