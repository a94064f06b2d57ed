"""Node agents that join an installation as processes of their own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.installation import Installation

AGENT = str(Path(sys.executable).with_name("penstock-node-agent"))


class NodeAgent:
    """A node's agent, as one is started on a GPU host; may be started again."""

    def __init__(self, penstock: Installation, name: str, **settings: str) -> None:
        self.node_id = f"node-{name}"
        self._penstock = penstock
        folder = penstock.data.parent / name
        folder.mkdir()
        self._log = folder / "agent.log"
        values = {
            "NATS_URL": penstock.urls["nats"],
            "NATS_USER": "node-agent",
            "NATS_PASSWORD_FILE": str(penstock.data / "nats.node-agent.password"),
            "SECRET_KEY_FILE": str(penstock.data / "secret.key"),
            "NODE_ID": self.node_id,
            "NODE_ADDRESS": "127.0.0.1",
            "RUNTIME": "process",
            "GPUS": "none",
            "DATA_DIR": str(folder),
            **settings,
        }
        self._env = {**os.environ, **{f"PENSTOCK_NODE_AGENT_{k}": v for k, v in values.items()}}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                AGENT, env=self._env, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        """As an operator or an upgrade does: SIGTERM."""
        self.send(signal.SIGTERM)
        assert self._process is not None
        async with asyncio.timeout(60):
            code = await self._process.wait()
        assert code == 0, self._log.read_text()[-4000:]

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def shown(self) -> dict[str, Any] | None:
        """The node as the api shows it; None = it does not know it."""
        answer = await self._penstock.api("GET", "/v1/nodes")
        found = [node for node in answer["nodes"] if node["id"] == self.node_id]
        return found[0] if found else None

    async def state(self) -> str | None:
        node = await self.shown()
        return node["state"] if node else None


@asynccontextmanager
async def joined(penstock: Installation, name: str, **settings: str) -> AsyncIterator[NodeAgent]:
    """A node that runs, and is told to end afterwards."""
    agent = NodeAgent(penstock, name, **settings)
    await agent.start()
    try:
        yield agent
    finally:
        if agent.runs:
            agent.send(signal.SIGCONT)
            await agent.stop()
