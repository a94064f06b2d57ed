"""What a service says of itself, and what the check from outside makes of it."""

import asyncio
import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_common import health
from penstock_common.clock import SystemClock
from penstock_common.health import (
    HEALTH_VARIABLE,
    STALE_S,
    HealthReport,
    keep_health_file,
    read_problem,
)
from tests.support.ports import free_port

CHECK = [sys.executable, "-m", "penstock_common.health"]


def written(file: Path, **fields: object) -> Path:
    file.write_text(json.dumps({"at": 100.0, "problem": None, "url": None, **fields}))
    return file


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """An HTTP server that answers every GET with this status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/readyz"
        finally:
            server.shutdown()
            thread.join()


def test_a_fresh_report_without_a_problem_is_well(tmp_path: Path) -> None:
    file = written(tmp_path / "health.json")
    assert read_problem(file, 100.0) is None
    assert read_problem(file, 100.0 + STALE_S) is None


def test_a_service_that_hangs_or_names_a_problem_is_not(tmp_path: Path) -> None:
    file = written(tmp_path / "health.json")
    assert "said nothing for 11 s" in str(read_problem(file, 111.0))
    # Written before the machine was started anew.
    assert "said nothing" in str(read_problem(file, 5.0))
    file = written(file, problem="NATS is not connected")
    assert read_problem(file, 101.0) == "NATS is not connected"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"at": "soon"}', '{"at": 1, "who": 2}'])
def test_what_is_no_report_is_a_problem(tmp_path: Path, text: str) -> None:
    file = tmp_path / "health.json"
    assert "says nothing of a service" in str(read_problem(file, 1.0))
    file.write_text(text)
    assert "says nothing of a service" in str(read_problem(file, 1.0))


def test_the_url_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ASK_S", 60.0)
    with answering(200) as url:
        assert read_problem(written(tmp_path / "health.json", url=url), 100.0) is None
    with answering(503) as url:
        assert "503" in str(read_problem(written(tmp_path / "health.json", url=url), 100.0))
    nobody = f"http://127.0.0.1:{free_port()}/"
    assert nobody in str(read_problem(written(tmp_path / "health.json", url=nobody), 100.0))


async def test_reports_are_kept_fresh_and_a_full_disk_is_survived(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    reports = [HealthReport("the service starts"), HealthReport(None)]
    keeping = asyncio.create_task(
        keep_health_file(folder / "health.json", lambda: reports[0], SystemClock())
    )

    async def comes_to(problem: str | None) -> None:
        async with asyncio.timeout(60):
            while True:
                if read_problem(folder / "health.json", SystemClock().monotonic()) == problem:
                    return
                await asyncio.sleep(0.02)

    await asyncio.sleep(0)
    folder.mkdir()
    await comes_to("the service starts")
    del reports[0]
    await comes_to(None)
    keeping.cancel()


@contextlib.contextmanager
def kept_fresh(file: Path) -> Iterator[None]:
    """A report that is written again and again, as by a service: a command may start slowly."""
    ended = threading.Event()

    def keep() -> None:
        while True:
            written(file.with_name("next.json"), at=SystemClock().monotonic()).replace(file)
            if ended.wait(0.1):
                return

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.slow
def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "health.json"
    env = {**os.environ, HEALTH_VARIABLE: str(file)}
    done = subprocess.run(CHECK, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "says nothing of a service" in done.stderr
    with kept_fresh(file):
        while not file.exists():
            pass
        assert subprocess.run(CHECK, env=env, check=False).returncode == 0
        with answering(200) as url:
            assert subprocess.run([*CHECK, url], env=env, check=False).returncode == 0
        with answering(500) as url:
            assert subprocess.run([*CHECK, url], env=env, check=False).returncode == 1
