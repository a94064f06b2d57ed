"""What `penstock up` promises on its own: ports, data directory, stopping, coming back."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support.installation import (
    PENSTOCK,
    ROOT,
    Installation,
    eventually,
    processes_with,
)
from tests.support.traffic import enough

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
PLAIN = ("--runtime", "process", "--gpus", "none")
pytestmark = [pytest.mark.slow, pytest.mark.nats]


async def up_fails(*options: str, env: dict[str, str] | None = None) -> str:
    """The one line that `penstock up` writes before it exits with 2."""
    process = await asyncio.create_subprocess_exec(
        PENSTOCK,
        "up",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 2, err.decode()
    assert out == b""
    return err.decode().strip().splitlines()[-1]


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        others = ("--api-port", "0", "--nats-port", "0")
        line = await up_fails("--data", str(tmp_path / "d"), "--router-port", str(port), *others)
    assert line == (
        f"penstock up: port {port} is in use; choose another with --router-port, or 0 for a free one"
    )


async def test_a_missing_engine_is_one_clear_line(tmp_path: Path) -> None:
    line = await up_fails(
        *("--data", str(tmp_path / "d"), "--runtime", "docker"),
        *("--api-port", "0", "--router-port", "0", "--nats-port", "0"),
        env={"DOCKER_HOST": f"unix://{tmp_path}/no.sock"},
    )
    assert line.startswith("penstock up: ")
    assert "docker" in line.lower()
    assert processes_with(str(tmp_path)) == []


async def test_a_gpu_list_that_makes_no_sense_is_one_clear_line(tmp_path: Path) -> None:
    line = await up_fails(
        *("--data", str(tmp_path / "d"), "--runtime", "process", "--gpus", "four big ones"),
        *("--api-port", "0", "--router-port", "0", "--nats-port", "0"),
    )
    assert "four big ones" in line


async def test_a_second_up_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with Installation(tmp_path / "data", *PLAIN) as running:
        line = await up_fails("--data", str(running.data), "--api-port", "0")
        assert "in use by another `penstock up`" in line
        assert (await running.api("GET", "/v1/endpoints")) is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_everything_and_the_next_up_has_the_endpoints_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    first = Installation(tmp_path / "data", *PLAIN)
    await first.start()
    made = await first.deploy("gauge", GAUGE, workers={"min": 1, "max": 2})
    status, _ = await first.get("gauge", "/")
    assert status == 200
    assert await first.stop(number) == 0
    assert processes_with(str(tmp_path)) == []
    assert not (tmp_path / "data" / "ready.json").exists()

    async with Installation(tmp_path / "data", *PLAIN) as second:
        shown = await second.api("GET", "/v1/endpoints/gauge")
        assert (shown["id"], shown["revision"]) == (made["id"], made["revision"])
        status, _ = await second.get("gauge", "/")
        assert status == 200


async def test_each_part_killed_in_turn_comes_back_and_no_warm_request_fails(
    tmp_path: Path,
) -> None:
    async with Installation(tmp_path / "data", *PLAIN) as penstock:
        await penstock.deploy(
            "gauge", GAUGE, workers={"min": 1, "max": 1, "max_concurrency": 8, "idle_timeout_s": 60}
        )
        _, first = await penstock.get("gauge", "/")
        stop = asyncio.Event()
        statuses: list[int] = []
        workers = set()

        async def load() -> None:
            while not stop.is_set():
                status, body = await penstock.get("gauge", "/?ms=2")
                statuses.append(status)
                workers.add(body.get("worker"))
                await asyncio.sleep(0.005)

        async def serves() -> bool:
            try:
                shown = await penstock.api("GET", "/v1/endpoints/gauge")
            except (OSError, aiohttp.ClientError, AssertionError):
                return False
            return bool(shown["state"] == "serving")

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            for name in ("scheduler", "api", "nats"):
                pid = penstock.child_pid(name)
                os.kill(pid, signal.SIGKILL)

                async def is_back(name: str = name, pid: int = pid) -> bool:
                    return penstock.child_pid(name) != pid

                await eventually(is_back, f"{name} is started again")
                await eventually(serves, f"the api answers after {name} was killed")
                before = len(statuses)
                await asyncio.sleep(2)  # a while of load in this state is what is tested
                await enough(statuses, before + 1)
            stop.set()
        assert set(statuses) == {200}
        assert workers == {first["worker"]}

        # The control plane still works: a second endpoint starts from zero.
        await penstock.deploy("second", GAUGE)
        status, _ = await penstock.get("second", "/")
        assert status == 200


async def test_workers_of_an_agent_that_was_killed_end_with_the_installation(
    tmp_path: Path,
) -> None:
    # A program of its own, by which its worker is told from those of tests at the same time.
    program = shutil.copy(ROOT / "tests/support/gauge_worker.py", tmp_path / "gauge.py")
    async with Installation(tmp_path / "data", *PLAIN) as penstock:
        command = f"{sys.executable} {program}"
        await penstock.deploy("gauge", command, workers={"min": 1, "max": 1})
        status, _ = await penstock.get("gauge", "/")
        assert status == 200
        assert len(processes_with(str(program))) == 1
        os.kill(penstock.child_pid("node-agent"), signal.SIGKILL)
        assert await penstock.stop() == 0
    assert not processes_with(str(program))
    assert not list((tmp_path / "data/node/workers").iterdir())


async def test_the_doctor_finds_a_running_installation_well_and_a_stopped_one_not(
    tmp_path: Path,
) -> None:
    async def ask_doctor() -> tuple[int | None, dict[str, dict[str, str]]]:
        process = await asyncio.create_subprocess_exec(
            *(PENSTOCK, "doctor", "--json", "--data", str(tmp_path / "data")),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        return process.returncode, {f["name"]: f for f in json.loads(output)}

    async with Installation(tmp_path / "data", *PLAIN) as penstock:
        code, findings = await ask_doctor()
        (node,) = (await penstock.api("GET", "/v1/nodes"))["nodes"]
        told = {name: findings[name]["level"] for name in ("api", "clock", "nats", "router")}
        assert told == dict.fromkeys(told, "ok"), findings
        assert findings[node["id"]]["level"] == "ok"
        assert findings["data disk"]["seen"].startswith(f"{tmp_path}/data: ")
        problems = [f for f in findings.values() if f["level"] == "problem"]
        assert code == bool(problems), problems
    code, findings = await ask_doctor()
    assert code == 1
    assert findings["api"]["level"] == "problem"
    assert "penstock up" in findings["api"]["mend"]
