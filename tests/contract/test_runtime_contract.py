"""What every runtime promises, asked of the fake, of processes and of a real Docker engine."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_common import entropy, ids
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from penstock_node_agent.runtimes.protocol import (
    Progress,
    Runtime,
    RuntimeFailedError,
    Started,
    StartFailedError,
    StartOrder,
)
from tests.fakes.runtime import FakeHost, FakeRuntime
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.process_workers import process_settings
from tests.support.requirements import require

SERVER = """
import http.server, os, signal, sys
for line in sys.argv[2:]:
    print(line, flush=True)
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write("\\n".join(f"{k}={v}" for k, v in os.environ.items()).encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Rig:
    """A runtime under test, and how to say to it what shall run."""

    def __init__(self, kind: str, make: Callable[[], Runtime]) -> None:
        self.kind = kind
        self._make = make
        self.runtime = make()
        self._ordered: list[str] = []

    async def restart(self) -> None:
        """The agent process ends and another one begins."""
        await self.runtime.close()
        self.runtime = self._make()
        await self.runtime.open()

    def order(self, program: str, *arguments: str, **changes: Any) -> StartOrder:
        worker_id = entropy.random_id(ids.WORKER)
        self._ordered.append(worker_id)
        command: tuple[str, ...] = (program, *arguments)
        if self.kind != "fake" and program == "exit":
            command = ("python3", "-c", f"import sys; sys.exit({arguments[0]})")
        elif self.kind != "fake":
            command = ("python3", "-c", SERVER, program, *arguments)
        fields: dict[str, Any] = {
            "worker_id": worker_id,
            "endpoint_id": "ep-1",
            "revision": 1,
            "image": IMAGE,
            "entrypoint": (),
            "command": command,
            "http_port": 8123,
            "env": {},
        }
        return StartOrder(**fields | changes)

    async def clean(self) -> None:
        for worker_id in self._ordered:
            await self.runtime.stop(worker_id, 0)
            await self.runtime.remove(worker_id)
        await self.runtime.close()


@pytest.fixture(
    params=[
        "fake",
        pytest.param("process", marks=pytest.mark.slow),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    ]
)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
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

    made = Rig(request.param, make)
    await made.runtime.open()
    yield made
    await made.clean()
    await host.close()


async def get(address: Started, *, within_s: float = 60.0) -> str:
    """Body of the server's answer, once it answers."""
    async with asyncio.timeout(within_s):
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(address.host, address.port)
                try:
                    writer.write(b"GET / HTTP/1.0\r\n\r\n")
                    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
                finally:
                    writer.close()
                if " 200 " in head.partition("\r\n")[0]:
                    return body
            await asyncio.sleep(0.01)


async def refuses(address: Started) -> bool:
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return True
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return not await reader.read()
    except OSError:
        return True
    finally:
        writer.close()


async def found(rig: Rig, worker_id: str) -> Any:
    return {item.worker_id: item for item in await rig.runtime.list_workers()}.get(worker_id)


async def test_a_started_worker_answers_where_start_says(rig: Rig) -> None:
    order = rig.order("serve", env={"COLOUR": "deep blue"})

    address = await rig.runtime.start(order)

    body = await get(address)
    assert (await found(rig, order.worker_id)).address == address
    if rig.kind != "fake":
        variables = dict(line.split("=", 1) for line in body.splitlines())
        assert variables["COLOUR"] == "deep blue"
        assert variables["PENSTOCK_ENDPOINT_ID"] == "ep-1"
        assert variables["PENSTOCK_WORKER_ID"] == order.worker_id
        assert variables["PORT"] == str(8123 if rig.kind == "docker" else address.port)
        assert variables["CUDA_VISIBLE_DEVICES"] == ""


async def test_progress_is_told_in_order(rig: Rig) -> None:
    seen: list[Progress] = []

    await rig.runtime.start(rig.order("serve"), seen.append)

    assert seen == [step for step in Progress if step in seen]
    assert seen[-2:] == [Progress.CREATED, Progress.STARTED]


async def test_a_start_repeated_changes_nothing(rig: Rig) -> None:
    order = rig.order("serve")
    first = await rig.runtime.start(order)

    assert await rig.runtime.start(order) == first
    assert len(await rig.runtime.list_workers()) == 1


async def test_the_exit_code_of_a_worker_that_ends_is_told(rig: Rig) -> None:
    order = rig.order("exit", "3")
    await rig.runtime.start(order)

    ended = await rig.runtime.wait(order.worker_id)

    assert (ended.code, ended.oom_killed, ended.port_taken) == (3, False, False)
    assert (await found(rig, order.worker_id)).address is None
    assert (await found(rig, order.worker_id)).exit == ended


async def test_an_ended_worker_is_not_started_again(rig: Rig) -> None:
    order = rig.order("exit", "0")
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)

    with pytest.raises(StartFailedError) as raised:
        await rig.runtime.start(order)
    assert raised.value.reason is WorkerReason.EXITED


async def test_a_removed_worker_may_be_started_again(rig: Rig) -> None:
    order = rig.order("exit", "0")
    await rig.runtime.start(order)
    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)

    await rig.runtime.start(order)

    assert (await rig.runtime.wait(order.worker_id)).code == 0


async def test_stop_lets_a_worker_end_by_itself(rig: Rig) -> None:
    order = rig.order("serve")
    address = await rig.runtime.start(order)
    await get(address)

    ended = await rig.runtime.stop(order.worker_id, 60)

    assert ended is not None
    assert ended.code == 143
    assert await rig.runtime.wait(order.worker_id) == ended
    assert await refuses(address)


async def test_stop_kills_after_the_grace(rig: Rig) -> None:
    order = rig.order("stubborn")
    address = await rig.runtime.start(order)
    await get(address)

    ended = await rig.runtime.stop(order.worker_id, 0.2)

    assert ended is not None
    assert (ended.code, ended.oom_killed) == (137, False)
    assert await refuses(address)


async def test_a_wait_ends_with_the_worker_that_another_task_stops(rig: Rig) -> None:
    order = rig.order("serve")
    await get(await rig.runtime.start(order))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(rig.runtime.wait(order.worker_id))
        await asyncio.sleep(0)
        stopped = group.create_task(rig.runtime.stop(order.worker_id, 60))

    assert waiting.result() == stopped.result()


async def test_a_cancelled_wait_takes_nothing_away(rig: Rig) -> None:
    order = rig.order("serve")
    await get(await rig.runtime.start(order))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await rig.runtime.wait(order.worker_id)

    await rig.runtime.stop(order.worker_id, 60)

    assert (await rig.runtime.wait(order.worker_id)).code == 143


async def test_nothing_is_known_of_a_worker_that_never_was(rig: Rig) -> None:
    assert await rig.runtime.stop("wk-never", 1) is None
    await rig.runtime.remove("wk-never")
    assert await rig.runtime.log_tail("wk-never", 5) == ()
    with pytest.raises(RuntimeFailedError):
        await rig.runtime.wait("wk-never")
    assert await rig.runtime.list_workers() == ()


async def test_the_last_lines_are_kept_until_removal(rig: Rig) -> None:
    order = rig.order("print", *[f"line {n}" for n in range(30)])
    address = await rig.runtime.start(order)
    await get(address)

    assert await rig.runtime.log_tail(order.worker_id, 2) == ("line 28", "line 29")
    await rig.runtime.stop(order.worker_id, 60)
    assert len(await rig.runtime.log_tail(order.worker_id, 20)) == 20
    await rig.runtime.remove(order.worker_id)
    assert await rig.runtime.log_tail(order.worker_id, 20) == ()


async def test_a_running_worker_is_not_removed(rig: Rig) -> None:
    order = rig.order("serve")
    address = await rig.runtime.start(order)

    with pytest.raises(RuntimeFailedError):
        await rig.runtime.remove(order.worker_id)

    await get(address)
    await rig.runtime.stop(order.worker_id, 60)
    await rig.runtime.remove(order.worker_id)
    assert await rig.runtime.list_workers() == ()


async def test_workers_outlive_the_agent_and_are_found_again(rig: Rig) -> None:
    serving, ended = rig.order("serve"), rig.order("exit", "7")
    address = await rig.runtime.start(serving)
    await rig.runtime.start(ended)
    await rig.runtime.wait(ended.worker_id)
    await get(address)

    await rig.restart()

    assert (await found(rig, serving.worker_id)).address == address
    await get(address)
    assert await rig.runtime.start(serving) == address
    again = await found(rig, ended.worker_id)
    # Only an engine remembers how a worker ended that was not its child.
    assert again.exit is not None
    assert again.exit.code == (None if rig.kind == "process" else 7)
    stopped = await rig.runtime.stop(serving.worker_id, 60)
    assert stopped is not None
    assert await refuses(address)


async def test_an_end_while_the_agent_is_away_is_found(rig: Rig) -> None:
    order = rig.order("serve")
    await get(await rig.runtime.start(order))
    await rig.restart()

    await rig.runtime.stop(order.worker_id, 60)

    assert (await rig.runtime.wait(order.worker_id)).oom_killed is False
    assert (await found(rig, order.worker_id)).address is None


async def test_a_cancelled_start_leaves_what_stop_and_remove_clean_away(rig: Rig) -> None:
    order = rig.order("serve")
    task = asyncio.create_task(rig.runtime.start(order), name="start to cancel")
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    await rig.runtime.stop(order.worker_id, 0)
    await rig.runtime.remove(order.worker_id)

    assert await rig.runtime.list_workers() == ()


async def test_where_a_worker_listens_is_seen_as_it_sees_it_itself(rig: Rig) -> None:
    order = rig.order("serve")
    address = await rig.runtime.start(order)
    await get(address)

    seen = await rig.runtime.listeners(order.worker_id)

    shown = seen is not None or rig.kind != "docker"
    require(shown, "an engine whose processes it shows")
    host = "127.0.0.1" if rig.kind == "fake" else "0.0.0.0"
    assert seen == (Listener(host, 8123 if rig.kind == "docker" else address.port),)
    await rig.runtime.stop(order.worker_id, 60)
    assert not await rig.runtime.listeners(order.worker_id)
    await rig.runtime.remove(order.worker_id)
    assert await rig.runtime.listeners(order.worker_id) is None
