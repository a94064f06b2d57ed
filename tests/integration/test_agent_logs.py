"""Lines of real workers under what goes wrong: floods, NATS away, ends of every kind."""

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import entropy, ids, subjects
from penstock_common.clock import SystemClock
from penstock_common.log_stream import LogStream, StoredBatch
from penstock_common.messages import LogGap, LogLine
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import ensure_streams
from penstock_common.states import WorkerReason, WorkerState
from penstock_node_agent.logs import follower as log_follower
from penstock_node_agent.logs.batcher import (
    BURST_BYTES,
    HELD_BACK_LINES,
    LINE_COST,
    RATE_BYTES_PER_S,
)
from penstock_node_agent.logs.logged_runtime import LoggedRuntime
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.logs import EngineLogs
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.output import (
    Cursor,
    Output,
    OutputLine,
    OutputLost,
    Skim,
    read_all,
)
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from penstock_node_agent.runtimes.protocol import BoundExceededError, StartOrder
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.agent_rig import AgentRig, agent_rig, endpoint_spec
from tests.support.bus import connected, eventually
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.engine_relay import EngineRelay
from tests.support.nats_server import NatsServer
from tests.support.process_workers import process_settings

pytestmark = [pytest.mark.nats, pytest.mark.slow]
ENDPOINT = "ep-1"
CLOCK = SystemClock()


class Rig:
    """Process workers whose lines are published."""

    def __init__(self, folder: Path, bus: Bus) -> None:
        self.stream = LogStream(bus)
        self.inner = ProcessRuntime(process_settings(folder))
        self.runtime = LoggedRuntime(self.inner, bus, "node-test", SystemClock())
        self.ordered: list[str] = []

    async def start(self, code: str) -> str:
        worker_id = entropy.random_id(ids.WORKER)
        self.ordered.append(worker_id)
        order = StartOrder(
            worker_id=worker_id,
            endpoint_id=ENDPOINT,
            revision=1,
            image=None,
            entrypoint=(),
            command=(sys.executable, "-c", code),
            http_port=8000,
            env={},
        )
        await self.runtime.start(order)
        return worker_id

    async def batches(self, worker_id: str) -> list[StoredBatch]:
        found: list[StoredBatch] = []
        sequence, more = 0, True
        while more:
            page = await self.stream.after(sequence, ENDPOINT, worker_id)
            found += page.batches
            sequence, more = page.upto, page.more
        return found

    async def entries(self, worker_id: str) -> list[LogLine | LogGap]:
        return [e for stored in await self.batches(worker_id) for e in stored.batch.entries]

    async def published(self) -> None:
        await eventually(lambda: self.runtime.followers == 0, within_s=90)


@pytest.fixture
async def rig(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Rig]:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        made = Rig(tmp_path, bus)
        await made.runtime.open()
        yield made
        for worker_id in made.ordered:
            await made.runtime.stop(worker_id, 0)
            await made.runtime.remove(worker_id)
        await made.runtime.close()


def numbers(entries: list[LogLine | LogGap]) -> int:
    """How many numbers stand in these entries, which must follow on each other from 1."""
    expected = 1
    for entry in entries:
        assert entry.n == expected, (entry, expected)
        expected = (entry.last if isinstance(entry, LogGap) else entry.n) + 1
    return expected - 1


async def test_a_flood_is_counted_to_the_last_line_and_its_end_is_shown(rig: Rig) -> None:
    code = (
        "import os\nblock = b''.join(b'%06d' % n + b'x' * 93 + b'\\n' for n in range(1000))\n"
        "for _ in range(600): os.write(1, block)\nos.write(2, b'Traceback: the reason\\n')"
    )
    began = CLOCK.monotonic()
    worker_id = await rig.start(code)
    await rig.runtime.wait(worker_id)
    await rig.runtime.remove(worker_id)
    await rig.published()
    took_s = CLOCK.monotonic() - began

    entries = await rig.entries(worker_id)

    # As long as nobody was so slow that the file was cut, every one of the lines is accounted for.
    if not any(isinstance(e, LogGap) and e.why == "rotated" for e in entries):
        assert numbers(entries) == 600_001
    lines = [e for e in entries if isinstance(e, LogLine)]
    share = BURST_BYTES + RATE_BYTES_PER_S * took_s
    assert sum(len(line.text) + LINE_COST for line in lines[:-HELD_BACK_LINES]) < share
    assert "Traceback: the reason" in {line.text for line in lines}
    assert [x.text[:6] for x in lines if x.stream == "stdout"][-1] == "000999"
    assert any(isinstance(e, LogGap) and e.why == "too_fast" for e in entries)


async def test_lines_written_while_nats_is_away_come_when_it_is_back(
    rig: Rig, nats_server: NatsServer
) -> None:
    worker_id = await rig.start(
        "import time\nfor n in range(1000000):\n print('line', n)\n time.sleep(0.02)"
    )
    async with asyncio.timeout(60):
        while not await rig.entries(worker_id):  # noqa: ASYNC110 - the stream is asked
            await asyncio.sleep(0.01)
    nats_server.stop()
    await asyncio.sleep(0.5)
    nats_server.start()
    await rig.runtime.stop(worker_id, 5)
    await rig.runtime.remove(worker_id)
    await rig.published()

    entries = await rig.entries(worker_id)

    assert not [e for e in entries if isinstance(e, LogGap)]
    assert numbers(entries) == len(entries)
    assert [e.text for e in entries if isinstance(e, LogLine)] == [
        f"line {n}" for n in range(len(entries))
    ]


async def test_a_worker_that_ends_and_is_removed_while_nats_is_away_is_not_forgotten(
    rig: Rig, nats_server: NatsServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker_id = await rig.start(
        "print('first')\nimport os, time\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "print('last')"
    )
    async with asyncio.timeout(60):
        while not await rig.entries(worker_id):  # noqa: ASYNC110 - the stream is asked
            await asyncio.sleep(0.01)
    nats_server.stop()
    gate.touch()
    await rig.runtime.wait(worker_id)
    await rig.runtime.remove(worker_id)
    assert rig.runtime.followers == 1

    nats_server.start()
    await rig.published()

    entries = await rig.entries(worker_id)
    assert [e.text for e in entries if isinstance(e, LogLine)] == ["first", "last"]
    assert (await rig.batches(worker_id))[-1].batch.ended


async def test_a_stream_that_is_gone_is_made_again_and_goes_on(rig: Rig, tmp_path: Path) -> None:
    worker_id = await rig.start("print('one')\nimport time\ntime.sleep(600)")
    async with asyncio.timeout(60):
        while not await rig.entries(worker_id):  # noqa: ASYNC110 - the stream is asked
            await asyncio.sleep(0.01)
    await rig.stream._bus.api(f"STREAM.DELETE.{subjects.LOGS}")

    await rig.runtime.stop(worker_id, 5)
    await rig.published()

    assert (await rig.batches(worker_id))[-1].batch.ended


async def test_a_worker_s_oldest_lines_go_when_it_has_too_many(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follower, "WORKER_BYTES", 200_000)
    worker_id = await rig.start("for n in range(1000): print(n, 'x' * 990)")
    await rig.runtime.wait(worker_id)
    await rig.published()

    entries = await rig.entries(worker_id)

    texts = [e.text for e in entries if isinstance(e, LogLine)]
    assert 100 <= len(texts) <= 300
    assert entries[-1].n == 1000
    assert entries[0].n > 1


class Stumbling(FakeRuntime):
    """Its first reading of an output breaks when what there is has been published."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host)
        self.stumbled = False
        self.published = asyncio.Event()

    async def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        async for output in super().follow(worker_id, cursor, skim):
            yield output
            if not self.stumbled:
                self.stumbled = True
                await self.published.wait()
                raise RuntimeError("nobody expected this")


async def test_a_follower_that_fails_is_begun_again_behind_what_it_published(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_node_agent.logs.logged_runtime.RETRY_S", 0.05)
    host = FakeHost()
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        inner = Stumbling(host)
        runtime = LoggedRuntime(inner, bus, "node-test", SystemClock())
        order = StartOrder("wk-1", ENDPOINT, 1, None, (), ("print", "one", "two"), 8000, {})
        await runtime.start(order)
        async with asyncio.timeout(60):
            while not (await LogStream(bus).after(0, ENDPOINT, "wk-1")).batches:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        inner.published.set()
        host.workers["wk-1"].write("three")
        await runtime.stop("wk-1", 1)
        await eventually(lambda: runtime.followers == 0)

        page = await LogStream(bus).after(0, ENDPOINT, "wk-1")
        await runtime.remove("wk-1")
        await runtime.close()
    entries = [entry for stored in page.batches for entry in stored.batch.entries]
    assert [e.text for e in entries if isinstance(e, LogLine)] == ["one", "two", "three"]
    assert numbers(entries) == 3
    await host.close()


@pytest.mark.docker
async def test_a_broken_connection_to_the_engine_loses_and_repeats_no_line(tmp_path: Path) -> None:
    engine = docker_host()
    if not engine.startswith("unix://"):
        pytest.skip("SKIPPED: the Docker engine is not behind a unix socket")
    settings = DockerSettings(
        docker_host=engine, node_id=f"node-{uuid.uuid4().hex[:8]}", address="127.0.0.1"
    )
    runtime = DockerRuntime(settings)
    await runtime.open()
    program = "import time\nfor n in range(60):\n print(n, flush=True)\n time.sleep(0.02)"
    worker_id = entropy.random_id(ids.WORKER)
    command = ("python3", "-c", program)
    order = StartOrder(worker_id, ENDPOINT, 1, IMAGE, (), command, 8000, {})
    texts: list[str] = []
    cuts = 0
    async with EngineRelay(tmp_path, engine.removeprefix("unix://")) as relay:
        logs = EngineLogs(f"unix://{relay.path}")
        try:
            await runtime.start(order)
            async for output in logs.follow(container_name(worker_id), ()):
                assert not any(isinstance(item, OutputLost) for item in output)
                texts += [item.data.decode() for item in output if isinstance(item, OutputLine)]
                if 20 <= len(texts) < 60 and cuts < 6:
                    cuts += 1
                    relay.cut()
        finally:
            await logs.close()
            await runtime.stop(worker_id, 0)
            await runtime.remove(worker_id)
            await runtime.close()
    assert texts == [str(n) for n in range(60)]
    assert relay.accepted > cuts > 0


# ---- the last lines in the status, by each kind of failure

NOISE = "for n in range(30): print('line', n)\n"
LAST = tuple(f"line {n}" for n in range(10, 30))


@pytest.fixture
async def agents(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


def script(folder: Path, code: str) -> str:
    path = folder / f"{uuid.uuid4().hex}.py"
    path.write_text(code)
    return f"{sys.executable} {path}"


SERVE_500 = NOISE + (
    "import http.server, os\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "  good = 3\n"
    "  def do_GET(self):\n"
    "    H.good -= 1\n"
    "    self.send_response(200 if H.good > 0 else 500); self.end_headers()\n"
    "  def log_message(self, *a): pass\n"
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()\n"
)


@pytest.mark.parametrize(
    ("code", "reason", "limits"),
    [
        (NOISE + "raise SystemExit(4)", WorkerReason.EXITED, {}),
        (
            NOISE + "import time; time.sleep(600)",
            WorkerReason.START_TIMEOUT,
            {"workers": {"start_timeout_s": 4, "stop_grace_s": 1}},
        ),
        (
            SERVE_500,
            WorkerReason.UNHEALTHY,
            {"health": {"interval_s": 0.1, "timeout_s": 10, "failure_threshold": 2}},
        ),
    ],
    ids=["exits at once", "never listens", "becomes unhealthy"],
)
async def test_a_failed_worker_s_status_and_stream_have_its_last_lines(
    agents: AgentRig, tmp_path: Path, code: str, reason: WorkerReason, limits: dict[str, Any]
) -> None:
    bus = await agents.bus("logs")
    inner = ProcessRuntime(process_settings(tmp_path))
    await agents.start(LoggedRuntime(inner, bus, "node-test", SystemClock()))

    worker = await agents.scheduler.assign(endpoint_spec(script(tmp_path, code), **limits))
    status = await agents.scheduler.until_state(worker.worker_id, WorkerState.FAILED)

    assert (status.reason, status.log_tail) == (reason, LAST)
    stream = LogStream(bus)
    async with asyncio.timeout(60):
        while (last := await stream.last("ep-1", worker.worker_id)) is None or (  # noqa: ASYNC110
            not last.batch.ended
        ):
            await asyncio.sleep(0.01)
    assert last.batch.next_n == 31


async def test_a_worker_that_is_beyond_a_bound_has_its_last_lines_in_its_status(
    agents: AgentRig,
) -> None:
    host = FakeHost()
    await agents.start(FakeRuntime(host))
    words = " ".join(f"line-{n}" for n in range(30))
    worker = await agents.scheduler.assign(endpoint_spec(f"print {words}"))
    await agents.scheduler.until_state(worker.worker_id, WorkerState.RUNNING)

    error = BoundExceededError(WorkerReason.DISK_EXCEEDED, "holds too much")
    host.workers[worker.worker_id].exceed(error)

    status = await agents.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.log_tail == tuple(f"line-{n}" for n in range(10, 30))
    await host.close()


async def test_a_worker_that_failed_while_no_agent_ran_has_its_last_lines_in_its_status(
    agents: AgentRig, tmp_path: Path
) -> None:
    bus = await agents.bus("logs")

    def runtime() -> LoggedRuntime:
        inner = ProcessRuntime(process_settings(tmp_path))
        return LoggedRuntime(inner, bus, "node-test", SystemClock())

    gate = tmp_path / "gate"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + NOISE
    first = await agents.start(runtime(), stop_workers_on_exit=False)
    worker = await agents.scheduler.assign(endpoint_spec(script(tmp_path, code)))
    await agents.scheduler.until_state(worker.worker_id, WorkerState.STARTING)
    await first.stop()
    gate.touch()
    log = tmp_path / "workers" / worker.worker_id / "stdout.log"
    await eventually(lambda: "line 29" in log.read_text())

    await agents.start(runtime())

    status = await agents.scheduler.until_state(worker.worker_id, WorkerState.FAILED)
    assert status.log_tail == LAST


@pytest.mark.docker
async def test_a_container_killed_for_its_memory_has_its_last_lines_in_its_status(
    agents: AgentRig,
) -> None:
    bus = await agents.bus("logs")
    settings = DockerSettings(
        docker_host=docker_host(),
        node_id=f"node-{uuid.uuid4().hex[:8]}",
        address="127.0.0.1",
        memory_bytes=48 * 1024**2,
        shm_bytes=1024**2,
    )
    runtime = LoggedRuntime(DockerRuntime(settings), bus, "node-test", SystemClock())
    await agents.start(runtime)
    program = "print('before the end', flush=True); x = []\nwhile True: x.append(bytearray(10**6))"
    spec = endpoint_spec(
        "unused", image={"image": IMAGE, "entrypoint": f'python3 -c "{program}"', "command": ""}
    )

    worker = await agents.scheduler.assign(spec)
    status = await agents.scheduler.until_state(worker.worker_id, WorkerState.FAILED)

    assert (status.reason, status.exit_code) == (WorkerReason.OOM_KILLED, 137)
    assert status.log_tail == ("before the end",)
