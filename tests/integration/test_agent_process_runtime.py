"""Process workers down to the kernel: sessions, orphans, ports, records, logs."""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import entropy, ids
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes import log_files, oom_kills
from penstock_node_agent.runtimes.process import spawn
from penstock_node_agent.runtimes.process import table as process_table
from penstock_node_agent.runtimes.process.logs import output_paths
from penstock_node_agent.runtimes.process.ports import PortPicker, is_free
from penstock_node_agent.runtimes.process.record import ProcessRecord, write_record
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder, StopFailedError
from tests.support.process_workers import living, process_settings, until

pytestmark = pytest.mark.slow

SLEEP = "import time; time.sleep(600)"
#: Leaves a grandchild in a session of its own, then sleeps.
FORKS_AWAY = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
print("forked", flush=True)
time.sleep(600)
"""
#: The same, its environment emptied, but in the worker's session.
FORKS_BARE = """
import os, sys, time
if os.fork() == 0:
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(601)"], {})
print("forked", flush=True)
time.sleep(600)
"""


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = ProcessRuntime(process_settings(folder))
        self.ordered: list[str] = []

    def order(self, code: str, **changes: Any) -> StartOrder:
        worker_id = entropy.random_id(ids.WORKER)
        self.ordered.append(worker_id)
        fields: dict[str, Any] = {
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "revision": 1,
            "image": None,
            "entrypoint": (),
            "command": (sys.executable, "-c", code),
            "http_port": 8000,
            "env": {},
        }
        return StartOrder(**fields | changes)

    async def start(self, code: str, **changes: Any) -> str:
        order = self.order(code, **changes)
        await self.runtime.start(order)
        return order.worker_id

    async def until_line(self, worker_id: str, line: str) -> None:
        logs = output_paths(self.folder / "workers" / worker_id)
        await until(lambda: line in log_files.tail(logs, 5))

    async def restart(self) -> None:
        await self.runtime.close()
        self.runtime = ProcessRuntime(process_settings(self.folder))
        await self.runtime.open()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await made.runtime.open()
    yield made
    for worker_id in made.ordered:
        await made.runtime.stop(worker_id, 0)
        await made.runtime.remove(worker_id)
        assert living(worker_id) == []
    await made.runtime.close()
    assert list((tmp_path / "workers").iterdir()) == []


@pytest.mark.parametrize("code", [FORKS_AWAY, FORKS_BARE])
async def test_stop_ends_all_that_a_worker_left_behind(rig: Rig, code: str) -> None:
    worker_id = await rig.start(code)
    await rig.until_line(worker_id, "forked")
    (leader,) = [p.session for p in living(worker_id) if p.pid == p.session][:1]
    before = [p for p in process_table.snapshot() if p.session == leader]
    before += living(worker_id)

    await rig.runtime.stop(worker_id, 5)

    for process in before:
        now = process_table.try_process(process.pid)
        assert now is None or now.zombie or now.started_ticks != process.started_ticks


async def test_an_exit_ends_all_that_a_worker_left_behind(rig: Rig) -> None:
    worker_id = await rig.start(FORKS_AWAY.replace("time.sleep(600)\n", "", 2) + "os._exit(4)")

    ended = await rig.runtime.wait(worker_id)

    assert ended.code == 4
    assert living(worker_id) == []


async def test_a_signal_is_told_as_128_and_its_number(rig: Rig) -> None:
    worker_id = await rig.start("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (await rig.runtime.wait(worker_id)).code == 128 + signal.SIGSEGV


async def test_the_environment_is_small_and_led_by_this_python(rig: Rig) -> None:
    os.environ["LEAKED_FROM_THE_AGENT"] = "1"
    try:
        worker_id = await rig.start(
            "import os\nfor k, v in sorted(os.environ.items()): print(f'{k}={v}')\nprint('end')",
            env={"MINE": "a b"},
            gpus=("GPU-a", "GPU-b"),
        )
    finally:
        del os.environ["LEAKED_FROM_THE_AGENT"]
    await rig.runtime.wait(worker_id)
    lines = await rig.runtime.log_tail(worker_id, 50)
    variables = dict(line.split("=", 1) for line in lines if "=" in line)

    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert variables["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert variables["MINE"] == "a b"
    assert set(variables) <= {
        *("PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "MINE", "PORT", "CUDA_VISIBLE_DEVICES"),
        *("PENSTOCK_ENDPOINT_ID", "PENSTOCK_WORKER_ID", "LC_CTYPE"),
    }


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-program",), "the program 'no-such-program' does not exist on the node"),
        (("/etc/passwd",), "the program '/etc/passwd' may not be executed"),
    ],
)
async def test_a_program_that_cannot_run_is_named(
    rig: Rig, command: tuple[str, ...], message: str
) -> None:
    with pytest.raises(StartFailedError, match=message) as raised:
        await rig.runtime.start(rig.order("", command=command))
    assert raised.value.reason is WorkerReason.START_FAILED
    assert await rig.runtime.list_workers() == ()


async def test_a_full_disk_is_told_and_leaves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, record: ProcessRecord) -> None:
        if record.pid is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_record(folder, record)

    monkeypatch.setattr(spawn, "write_record", full)
    order = rig.order(SLEEP)
    with pytest.raises(StartFailedError) as raised:
        await rig.runtime.start(order)
    assert raised.value.reason is WorkerReason.NO_SPACE
    assert living(order.worker_id) == []


async def test_a_port_that_another_took_meanwhile_is_told(rig: Rig) -> None:
    order = rig.order(
        "import os, socket, sys\n"
        "while not os.path.exists('go'): pass\n"
        "socket.socket().bind(('', int(os.environ['PORT'])))"
    )
    address = await rig.runtime.start(order)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", address.port))
        thief.listen()
        (rig.folder / "go").touch()
        ended = await rig.runtime.wait(order.worker_id)

    assert (ended.code, ended.port_taken) == (1, True)
    assert "Address already in use" in (await rig.runtime.log_tail(order.worker_id, 1))[0]


async def test_workers_get_ports_of_their_own(rig: Rig) -> None:
    addresses = await asyncio.gather(*[rig.runtime.start(rig.order(SLEEP)) for _ in range(5)])
    assert len({address.port for address in addresses}) == 5


def test_a_port_in_use_is_not_picked() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        assert PortPicker(range(port, port + 1), offset=7).try_pick(()) is None
    picker = PortPicker(range(20_000, 20_003), offset=20_001)
    assert picker.try_pick({20_000, 20_002}) in (20_001, None)


async def test_a_recycled_pid_is_not_taken_for_the_worker(rig: Rig) -> None:
    bystander = await asyncio.create_subprocess_exec(sys.executable, "-c", SLEEP)
    folder = rig.folder / "workers" / "wk-old"
    folder.mkdir(parents=True)
    record = ProcessRecord(
        worker_id="wk-old",
        port=20_000,
        boot_id=process_table.boot_id(),
        pid=bystander.pid,
        started_ticks=1,
    )
    write_record(folder, record)

    await rig.restart()

    (found,) = await rig.runtime.list_workers()
    assert found.exit is not None
    await rig.runtime.stop("wk-old", 0)
    assert bystander.returncode is None
    await rig.runtime.remove("wk-old")
    bystander.kill()
    await bystander.wait()


async def test_a_record_of_another_boot_is_an_ended_worker(rig: Rig) -> None:
    worker_id = await rig.start(SLEEP)
    folder = rig.folder / "workers" / worker_id
    record = ProcessRecord.decode((folder / "record.json").read_bytes())
    await rig.runtime.stop(worker_id, 0)
    write_record(folder, record.model_copy(update={"boot_id": "another"}))

    await rig.restart()

    (found,) = await rig.runtime.list_workers()
    assert found.exit is not None
    assert found.exit.code is None


async def test_a_spawn_that_a_crash_cut_off_is_undone(rig: Rig) -> None:
    worker_id = await rig.start(SLEEP)
    # The kernel shows the environment of a process a moment after it runs.
    await until(lambda: bool(living(worker_id)))
    folder = rig.folder / "workers" / worker_id
    record = ProcessRecord.decode((folder / "record.json").read_bytes())
    # As if the agent had died between the spawn and the second write.
    write_record(folder, record.model_copy(update={"pid": None}))

    await rig.restart()

    assert living(worker_id) == []
    assert await rig.runtime.list_workers() == ()
    assert not folder.exists()


async def test_a_long_log_is_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = log_files.cut_if_large
    monkeypatch.setattr(log_files, "cut_if_large", lambda path: cut(path, 4_096))
    worker_id = await rig.start(
        "import time\nfor n in range(2000): print('line', n)\nprint('done')\ntime.sleep(600)"
    )
    await rig.until_line(worker_id, "done")

    await rig.runtime.tend()

    log = (rig.folder / "workers" / worker_id / "stdout.log").stat()
    assert log.st_blocks * 512 <= 4_096 + 2 * log.st_blksize
    assert (await rig.runtime.log_tail(worker_id, 2)) == ("line 1999", "done")


async def test_a_kill_for_memory_is_told_apart(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_id = await rig.start(SLEEP)
    # The kernel shows the environment of a process a moment after it runs.
    await until(lambda: bool(living(worker_id)))
    (pid,) = [p.pid for p in living(worker_id)]
    monkeypatch.setattr(oom_kills, "oom_kill_count", lambda: sys.maxsize)
    await rig.runtime.tend()  # also when a look at the machine comes between the kill and its word
    os.kill(pid, signal.SIGKILL)

    ended = await rig.runtime.wait(worker_id)

    assert (ended.code, ended.oom_killed) == (137, True)


async def test_a_survivor_of_sigkill_is_not_called_gone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_id = await rig.start(SLEEP)
    monkeypatch.setattr(process_table, "send_signal", lambda _process, _number: None)
    monkeypatch.setattr("penstock_node_agent.runtimes.process.ends.KILL_WAIT_S", 0.2)

    with pytest.raises(StopFailedError):
        await rig.runtime.stop(worker_id, 0.05)
    (found,) = await rig.runtime.list_workers()
    assert found.exit is None

    monkeypatch.undo()
    assert await rig.runtime.stop(worker_id, 0) is not None
