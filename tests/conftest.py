"""Fixtures that every tier may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.nats_server import NatsServer

# No deadline per example: a busy machine is no bug, and pytest bounds each test.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server that lives for this test."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()
