"""Fixtures that every tier may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats_server import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real nats-server that lives for this test."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()
