"""A router before one real worker."""

from collections.abc import AsyncIterator

import pytest

from tests.support.nats_server import NatsServer
from tests.support.router_scene import Scene, router_scene


@pytest.fixture
async def scene(nats_server: NatsServer) -> AsyncIterator[Scene]:
    async with router_scene(nats_server) as made:
        yield made
