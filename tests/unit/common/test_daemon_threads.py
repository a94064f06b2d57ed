import asyncio
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from penstock_common.daemon_threads import DaemonThreads


@pytest.fixture
def threads() -> Iterator[DaemonThreads]:
    made = DaemonThreads(3, "under-test")
    yield made
    made.close()


async def test_results_and_errors_come_back(threads: DaemonThreads) -> None:
    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_no_more_than_the_limit_run_at_once(threads: DaemonThreads) -> None:
    running, most = 0, 0
    lock = threading.Lock()
    full = threading.Barrier(3)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(60)
        with lock:
            running -= 1

    await asyncio.gather(*[threads.run(work) for _ in range(9)])
    assert most == 3


async def test_work_whose_waiter_left_is_done_all_the_same(threads: DaemonThreads) -> None:
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait(60)
        done.set()

    future = threads.run(work)
    await asyncio.to_thread(begun.wait, 60)
    future.cancel()
    go.set()
    assert await asyncio.to_thread(done.wait, 60)


class SlowHandOver(queue.SimpleQueue[Any]):
    """A thread that takes a job from it stands still before it has said so."""

    def __init__(self) -> None:
        self.taken, self.go = threading.Event(), threading.Event()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        job = super().get(block, timeout)
        self.taken.set()
        self.go.wait(60)
        return job


async def test_no_work_waits_behind_a_call_that_hangs_while_a_thread_may_be_had(
    threads: DaemonThreads,
) -> None:
    hangs, jobs = threading.Event(), SlowHandOver()
    threads._jobs = jobs
    first = threads.run(hangs.wait)
    await asyncio.to_thread(jobs.taken.wait, 60)
    second = threads.run(lambda: 7)
    jobs.go.set()
    async with asyncio.timeout(60):
        assert await second == 7
    assert not first.done()
    hangs.set()
    assert await first


@pytest.mark.slow
def test_a_hanging_call_does_not_hold_the_exit() -> None:
    code = (
        "import asyncio, threading\n"
        "from penstock_common.daemon_threads import DaemonThreads\n"
        "async def main():\n"
        "    DaemonThreads(1, 'x').run(threading.Event().wait)\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
