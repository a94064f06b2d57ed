"""An agent on a real NATS whose workers are played by the fake runtime."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.runtime import FakeHost
from tests.support.agent_rig import AgentRig, agent_rig
from tests.support.nats_server import NatsServer


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


@pytest.fixture
async def host() -> AsyncIterator[FakeHost]:
    made = FakeHost()
    yield made
    await made.close()
