"""What every runtime promises about its workers' output, and what comes of it in the stream.

Asked of the fake, of processes and of a real Docker engine, with a real nats-server.
"""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from penstock_common import entropy, ids
from penstock_common.clock import SystemClock
from penstock_common.errors import BusTimeoutError
from penstock_common.log_stream import LogStream, StoredBatch
from penstock_common.messages import LogGap, LogLine
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import ensure_streams
from penstock_node_agent.logs.logged_runtime import LoggedRuntime
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.output import Cursor, OutputLine
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from penstock_node_agent.runtimes.protocol import Runtime, StartOrder
from tests.fakes.runtime import STDERR, FakeHost, FakeRuntime
from tests.support.bus import connected, eventually
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer
from tests.support.process_workers import process_settings

pytestmark = [pytest.mark.nats]

#: Writes its arguments, waits for a file if the first of them names one, and ends with code 3.
#: An argument `wait` stands for waiting on SIGTERM.
WRITER = f"""
import signal, sys, os
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"bye\\n"), os._exit(143)))
for line in sys.argv[1:]:
    if line == "wait":
        signal.pause()
    elif line.startswith({STDERR!r}):
        os.write(2, line.removeprefix({STDERR!r}).encode() + b"\\n")
    else:
        os.write(1, line.encode() + b"\\n")
os._exit(3)
"""
ENDPOINT = "ep-1"


class Rig:
    """A runtime with its lines published, and how to say what shall run."""

    def __init__(self, kind: str, make: Callable[[], Runtime], bus: Bus, host: FakeHost) -> None:
        self.kind = kind
        self._host = host
        self._make = make
        self._bus = bus
        self.stream = LogStream(bus)
        self.inner = make()
        self.runtime = self._logged()
        self._ordered: list[str] = []

    def _logged(self) -> LoggedRuntime:
        return LoggedRuntime(self.inner, self._bus, "node-test", SystemClock())

    async def restart(self) -> None:
        """The agent process ends and another one begins."""
        await self.runtime.close()
        self.inner = self._make()
        self.runtime = self._logged()
        await self.runtime.open()
        await self.runtime.list_workers()

    def order(self, *lines: str) -> StartOrder:
        """A worker that writes these lines and ends; the line `wait` has it wait for its stop."""
        worker_id = entropy.random_id(ids.WORKER)
        self._ordered.append(worker_id)
        command = ("python3", "-c", WRITER, *lines)
        if self.kind == "fake":
            words = [line for line in lines if line != "wait"]
            command = ("print" if "wait" in lines else "print-and-exit", *words)
        return StartOrder(
            worker_id=worker_id,
            endpoint_id=ENDPOINT,
            revision=1,
            image=IMAGE,
            entrypoint=(),
            command=command,
            http_port=8123,
            env={},
        )

    async def follow(self, worker_id: str, cursor: Cursor = ()) -> list[OutputLine]:
        """All that the runtime gives, until it says that there is no more."""
        found: list[OutputLine] = []
        async with contextlib.aclosing(self.inner.follow(worker_id, cursor)) as outputs:
            async for output in outputs:
                found += [item for item in output if isinstance(item, OutputLine)]
        return found

    async def batches(self, worker_id: str) -> list[StoredBatch]:
        """What the stream holds of a worker."""
        found: list[StoredBatch] = []
        sequence, more = 0, True
        while more:
            page = await self.stream.after(sequence, ENDPOINT, worker_id)
            found += page.batches
            sequence, more = page.upto, page.more
        return found

    async def lines(self, worker_id: str) -> list[LogLine | LogGap]:
        return [entry for stored in await self.batches(worker_id) for entry in stored.batch.entries]

    async def until_ended(self, worker_id: str) -> list[LogLine | LogGap]:
        """The worker's lines in the stream, once that says there are no more."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(BusTimeoutError):  # it is asked again
                    found = await self.batches(worker_id)
                    if found and found[-1].batch.ended:
                        return [entry for stored in found for entry in stored.batch.entries]
                await asyncio.sleep(0.01)

    async def until_texts(self, worker_id: str, *texts: str) -> None:
        """Wait until the stream has exactly these lines, in whatever order."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(BusTimeoutError):  # it is asked again
                    if sorted(texts_of(await self.lines(worker_id))) == sorted(texts):
                        return
                await asyncio.sleep(0.01)

    async def stop(self, worker_id: str) -> None:
        """Stop a worker that waits; it says `bye`."""
        if self.kind == "fake":
            self._host.workers[worker_id].write("bye")
        await self.runtime.stop(worker_id, 60)

    async def clean(self) -> None:
        for worker_id in self._ordered:
            await self.runtime.stop(worker_id, 0)
            await self.runtime.remove(worker_id)
        await self.runtime.close()


def texts_of(entries: list[LogLine | LogGap]) -> list[str]:
    return [entry.text for entry in entries if isinstance(entry, LogLine)]


def numbers_of(entries: list[LogLine | LogGap]) -> list[int]:
    return [entry.n for entry in entries]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(
    params=[
        "fake",
        pytest.param("process", marks=pytest.mark.slow),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    ]
)
async def rig(
    request: pytest.FixtureRequest, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[Rig]:
    host = FakeHost()
    node_id = f"node-{uuid.uuid4().hex[:8]}"

    def make() -> Runtime:
        if request.param == "fake":
            return FakeRuntime(host)
        if request.param == "process":
            return ProcessRuntime(process_settings(tmp_path))
        return DockerRuntime(
            DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
        )

    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        made = Rig(request.param, make, bus, host)
        await made.runtime.open()
        yield made
        await made.clean()
    await host.close()


async def test_a_runtime_gives_both_outputs_from_the_first_byte_to_the_last(rig: Rig) -> None:
    order = rig.order("one", STDERR + "oh", "two ü", STDERR + "no")
    await rig.inner.start(order)
    await rig.inner.wait(order.worker_id)

    found = await rig.follow(order.worker_id)

    by_stream = {
        name: [line.data.decode() for line in found if line.stream == name]
        for name in ("stdout", "stderr")
    }
    assert by_stream == {"stdout": ["one", "two ü"], "stderr": ["oh", "no"]}


async def test_a_runtime_goes_on_behind_any_line(rig: Rig) -> None:
    order = rig.order("one", STDERR + "oh", "two", STDERR + "no", "three")
    await rig.inner.start(order)
    await rig.inner.wait(order.worker_id)
    found = await rig.follow(order.worker_id)
    assert len(found) == 5

    for n, line in enumerate(found):
        behind = await rig.follow(order.worker_id, line.cursor)
        assert [(x.stream, x.data) for x in behind] == [(x.stream, x.data) for x in found[n + 1 :]]


async def test_a_runtime_gives_nothing_of_a_worker_that_never_was(rig: Rig) -> None:
    assert await rig.follow("wk-never") == []


async def test_a_runtime_starts_afresh_with_a_cursor_of_another_run(rig: Rig) -> None:
    order = rig.order("one")
    await rig.inner.start(order)
    await rig.inner.wait(order.worker_id)
    (line,) = await rig.follow(order.worker_id)

    again = await rig.follow(order.worker_id, ("another run", *line.cursor[1:]))

    assert [x.data for x in again] == [b"one"]


async def test_a_worker_that_ends_at_once_has_its_lines_in_the_stream(rig: Rig) -> None:
    order = rig.order("one", "two", STDERR + "why")
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)

    entries = await rig.until_ended(order.worker_id)

    assert sorted(texts_of(entries)) == ["one", "two", "why"]
    assert numbers_of(entries) == [1, 2, 3]
    assert {e.text: e.stream for e in entries if isinstance(e, LogLine)}["why"] == "stderr"
    await eventually(lambda: rig.runtime.followers == 0)


async def test_lines_come_while_the_worker_runs(rig: Rig) -> None:
    order = rig.order("one", "two", "wait")
    await rig.runtime.start(order)

    await rig.until_texts(order.worker_id, "one", "two")

    assert not (await rig.batches(order.worker_id))[-1].batch.ended
    await rig.stop(order.worker_id)
    assert texts_of(await rig.until_ended(order.worker_id)) == ["one", "two", "bye"]


async def test_a_worker_that_writes_nothing_has_an_end_all_the_same(rig: Rig) -> None:
    order = rig.order()
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)

    assert await rig.until_ended(order.worker_id) == []


async def test_a_new_agent_process_neither_loses_nor_repeats_a_line(rig: Rig) -> None:
    order = rig.order("one", STDERR + "two", "wait")
    await rig.runtime.start(order)
    await rig.until_texts(order.worker_id, "one", "two")

    await rig.restart()
    await rig.stop(order.worker_id)

    entries = await rig.until_ended(order.worker_id)
    assert sorted(texts_of(entries)) == ["bye", "one", "two"]
    assert numbers_of(entries) == [1, 2, 3]


async def test_an_end_while_no_agent_runs_is_published_by_the_next(rig: Rig) -> None:
    order = rig.order("one", "two")
    await rig.inner.start(order)  # as by an agent that died before it published anything
    await rig.inner.wait(order.worker_id)

    await rig.restart()

    assert texts_of(await rig.until_ended(order.worker_id)) == ["one", "two"]
    await rig.restart()
    await eventually(lambda: rig.runtime.followers == 0)
    ended = [s for s in await rig.batches(order.worker_id) if s.batch.ended]
    assert len(ended) == 1


async def test_another_run_of_the_same_worker_goes_on_counting(rig: Rig) -> None:
    order = rig.order("one")
    for _ in range(2):
        await rig.runtime.start(order)
        await rig.runtime.wait(order.worker_id)
        await rig.runtime.remove(order.worker_id)

    await eventually(lambda: rig.runtime.followers == 0)
    entries = await rig.lines(order.worker_id)
    assert texts_of(entries) == ["one", "one"]
    assert numbers_of(entries) == [1, 2]


async def test_batches_know_the_one_before(rig: Rig) -> None:
    order = rig.order(*[f"{n} " + "x" * 9_000 for n in range(20)])
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    await rig.until_ended(order.worker_id)

    found = await rig.batches(order.worker_id)

    assert len(found) > 4
    assert [s.batch.previous for s in found] == [0, *[s.sequence for s in found[:-1]]]


def own_threads() -> int:
    """Threads now, without those of bounded pools, which are begun when first needed at once."""
    pools = ("asyncio_", "docker-call-", "process-runtime-")
    return sum(not thread.name.startswith(pools) for thread in threading.enumerate())


async def test_followers_hold_no_threads_and_leave_no_files_open(rig: Rig) -> None:
    async def four_at_once() -> int:
        """Most threads while four are followed, each of them started, stopped and removed."""
        orders = [rig.order("one", "wait") for _ in range(4)]
        for order in orders:
            await rig.runtime.start(order)
            await rig.until_texts(order.worker_id, "one")
        assert rig.runtime.followers == 4
        threads = own_threads()
        for order in orders:
            await rig.runtime.stop(order.worker_id, 60)
            await rig.until_ended(order.worker_id)
            await rig.runtime.remove(order.worker_id)
        await eventually(lambda: rig.runtime.followers == 0)
        return threads

    await four_at_once()  # makes what is kept: connections of the SDK
    threads = own_threads()
    files = open_files()

    assert await four_at_once() <= threads
    await eventually(lambda: open_files() <= files)
