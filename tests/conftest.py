"""Fixtures that every tier may use."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nats_server import NatsServer

# No deadline per example, and no bound on how long examples take to make: a busy machine is no bug,
# and pytest bounds each test.
# The same examples each time: whether a commit is good is no matter of luck. `make fuzz` looks for
# new ones; what it finds becomes an `@example` or a test.
settings.register_profile("fuzz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("penstock", settings.get_profile("fuzz"), derandomize=True)
settings.load_profile("penstock")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server that lives for this test."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


#: Of each log, the end is told.
_TOLD_BYTES = 200_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails tells what the parts that it started have written to their logs."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(folder, Path):
        for log in sorted(folder.rglob("*.log")):
            if log.is_file():
                text = log.read_bytes()[-_TOLD_BYTES:].decode(errors="replace")
                report.sections.append((f"{log.relative_to(folder)} ({call.when})", text))
    return report
