"""The life of a service process: ready, drain, end, and what its exit code says."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.health import read_problem

CLOCK = SystemClock()

SERVICE = """
import asyncio, sys
from penstock_common import lifecycle

async def serve(stopping):
    {body}

sys.exit(lifecycle.run(serve))
"""
DRAINS = "lifecycle.notify_ready(url='http://x'); await stopping.wait()"
HANGS = DRAINS + "; await asyncio.sleep(60)"


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The supervisor's end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def start(body: str, notified: socket.socket, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE.format(body=body)],
        env={**os.environ, "NOTIFY_SOCKET": notified.getsockname(), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_the_first_signal_drains(notified: socket.socket, number: signal.Signals) -> None:
    process = start(DRAINS, notified)
    assert notified.recv(1000).decode().splitlines() == ["READY=1", "X_URL=http://x"]
    process.send_signal(number)
    assert notified.recv(1000) == b"STOPPING=1"
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.slow
def test_only_a_second_sigint_forces(notified: socket.socket) -> None:
    process = start(HANGS, notified)
    notified.recv(1000)
    process.send_signal(signal.SIGINT)
    assert notified.recv(1000) == b"STOPPING=1"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.slow
def test_a_signal_before_ready_ends_it_at_once(notified: socket.socket) -> None:
    process = start("lifecycle._notify('STATUS=starting'); await asyncio.sleep(60)", notified)
    assert notified.recv(1000) == b"STATUS=starting"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("return", 0, ""),
        ("raise LookupError('bug')", 1, "service failed"),
        ("raise lifecycle.MisconfiguredError('no such file')", 2, "service misconfigured"),
        ("raise lifecycle.BusDisconnectedError", 1, "NATS was lost while the service started\n"),
        (
            "raise ExceptionGroup('', [lifecycle.BusTimeoutError(), lifecycle.NoRespondersError()])",
            1,
            "NATS was lost while the service started\n",
        ),
        (
            "raise ExceptionGroup('', [lifecycle.BusTimeoutError(), LookupError('bug')])",
            1,
            "service failed",
        ),
        ("lifecycle.notify_ready(); raise lifecycle.BusDisconnectedError", 1, "service failed"),
    ],
)
@pytest.mark.slow
def test_the_exit_code_says_how_it_ended(
    notified: socket.socket, body: str, code: int, says: str
) -> None:
    process = start(body, notified)
    told = process.communicate(timeout=60)[1]
    assert told.startswith(says)
    assert ("Traceback" in told) == (says == "service failed")
    assert process.returncode == code


@pytest.mark.slow
def test_a_service_ends_when_its_supervisor_has_ended(notified: socket.socket) -> None:
    """Here it is another than the parent: that one has gone already."""
    process = start(DRAINS, notified, PENSTOCK_SUPERVISOR_PID="1")
    if os.getpid() == 1:
        pytest.skip("this process is the first of its machine")
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.slow
def test_the_health_file_follows_the_service(notified: socket.socket, tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    body = (
        "problems = ['no disk']; lifecycle.notify_ready(check=lambda: problems[0]);"
        "await stopping.wait(); problems[0] = None; await asyncio.sleep(60)"
    )
    process = start(body, notified, PENSTOCK_HEALTH_FILE=str(file))

    def comes_to(problem: str) -> None:
        deadline = CLOCK.monotonic() + 60
        while read_problem(file, CLOCK.monotonic()) != problem:
            assert CLOCK.monotonic() < deadline, problem
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.05)

    try:
        comes_to("no disk")
        process.send_signal(signal.SIGTERM)
        comes_to("the service stops")
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_an_abstract_socket_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"penstock-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        lifecycle.notify_stopping()
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "/nowhere/at/all"])
def test_no_supervisor_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    lifecycle.notify_ready(url="x")
