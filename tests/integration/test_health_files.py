"""What services without HTTP say of themselves: real processes, a real nats-server that dies."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock_common.clock import SystemClock
from penstock_common.health import HEALTH_VARIABLE, read_problem
from penstock_node_agent.node.heartbeat import TTL_S
from tests.support.installation import eventually
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]
CLOCK = SystemClock()


@asynccontextmanager
async def running(module: str, folder: Path, nats_url: str, **settings: str) -> AsyncIterator[Path]:
    """A service as a container runs it; gives its health file."""
    file = folder / f"{module}.health"
    prefix = f"{module.upper()}_"
    env = {**os.environ, f"{prefix}NATS_URL": nats_url, HEALTH_VARIABLE: str(file)}
    env |= {prefix + name: value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield file
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()


async def comes_to_say(file: Path, text: str | None, *, within_s: float = 60.0) -> None:
    """Wait until the file tells a problem with this text; None = none."""

    async def says() -> bool:
        problem = read_problem(file, CLOCK.monotonic())
        return problem is None if text is None else text in (problem or "")

    await eventually(says, f"{file.name} says {text}", within_s=within_s)


async def test_scheduler_and_agent_tell_that_nats_is_gone_and_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    agent = {"RUNTIME": "process", "GPUS": "none", "DATA_DIR": str(tmp_path / "node")}
    url = nats_server.url
    async with (
        running("penstock_scheduler", tmp_path, url) as of_scheduler,
        running("penstock_node_agent", tmp_path, url, **agent) as of_agent,
    ):
        await comes_to_say(of_scheduler, None)
        await comes_to_say(of_agent, None)
        nats_server.kill()
        await comes_to_say(of_scheduler, "NATS is not connected")
        await comes_to_say(of_agent, "no heartbeat was written for", within_s=TTL_S + 60)
        nats_server.start()
        await comes_to_say(of_scheduler, None)
        await comes_to_say(of_agent, None)
