"""A second host becomes a node by a token, gets workers, and the token is worth nothing then."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from penstock_node_agent.joining import CREDENTIALS_FILE
from tests.support.installation import PENSTOCK, ROOT, Installation, eventually
from tests.support.node_agent import AGENT
from tests.support.ports import free_port

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.nats]


class Host:
    """A machine of its own, as far as its folder and environment go."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.credentials = folder / "node" / CREDENTIALS_FILE
        own = {
            "NODE_ID": f"node-{folder.name}",
            "NODE_ADDRESS": "127.0.0.1",
            "DATA_DIR": str(folder / "node"),
            "RUNTIME": "process",
            "GPUS": "none",
        }
        self._env = {**os.environ, **{f"PENSTOCK_NODE_AGENT_{k}": v for k, v in own.items()}}

    async def run(self, *words: str, **settings: str) -> asyncio.subprocess.Process:
        """Start the agent's command, which writes to `agent.log`."""
        env = {**self._env, **{f"PENSTOCK_NODE_AGENT_{k}": v for k, v in settings.items()}}
        with (self._folder / "agent.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                AGENT, *words, env=env, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )

    def log(self) -> str:
        return (self._folder / "agent.log").read_text()


async def make_token(penstock: Installation, *options: str) -> str:
    """The token that `penstock node join` makes."""
    process = await asyncio.create_subprocess_exec(
        *(PENSTOCK, "node", "join", "--data", str(penstock.data), "--json", *options),
        *("--api-url", "http://penstock.example.com"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    token: str = json.loads(out)["token"]
    return token


async def test_a_host_joins_by_a_token_and_gets_workers(tmp_path: Path) -> None:
    port = free_port()
    options = ("--runtime", "process", "--gpus", "none", "--nats-port", str(port))
    env = {"PENSTOCK_API_NODE_NATS_URL": f"nats://127.0.0.1:{port}"}
    async with Installation(tmp_path / "data", *options, env=env) as penstock:
        token = await make_token(penstock, "--label", "rack=7")
        first, second, third = (Host(tmp_path / name) for name in ("first", "second", "third"))
        joining = await first.run("join", "--api", penstock.urls["api"], "--token", "-")
        await joining.communicate(f"{token}\n".encode())
        assert joining.returncode == 0, first.log()
        assert first.credentials.stat().st_mode & 0o777 == 0o600

        late = await second.run("join", "--api", penstock.urls["api"], JOIN_TOKEN=token)
        assert await late.wait() == 2
        assert "as often as it allows" in second.log()
        assert not second.credentials.exists()

        agent = await first.run()
        # One that joins by its settings alone, as in a container, when it starts.
        other = await third.run(
            JOIN_API_URL=penstock.urls["api"], JOIN_TOKEN=await make_token(penstock)
        )
        try:
            await penstock.deploy(
                "gauge",
                GAUGE,
                workers={"min": 1},
                placement={"node_selector": {"rack": "7"}},
                secrets={"TOKEN": "canary-of-joining"},
            )

            async def runs_there() -> bool:
                workers = await penstock.workers("gauge")
                return [(w["state"], w["node_id"]) for w in workers] == [("running", "node-first")]

            await eventually(runs_there, "a worker runs on the node that joined")
            status, _ = await penstock.get("gauge", "/")
            assert status == 200, "its secrets could be opened"

            async def is_there() -> bool:
                nodes = (await penstock.api("GET", "/v1/nodes"))["nodes"]
                return "node-third" in {node["id"] for node in nodes}

            await eventually(is_there, "the other has joined as well")
        finally:
            for process in (agent, other):
                if process.returncode is None:
                    process.terminate()
            for process in (agent, other):
                assert await process.wait() == 0
        records = (await penstock.api("GET", "/v1/audit?action=join_tokens_join"))["records"]
        assert [record["status"] for record in records] == [200, 403, 200]
        for secret in (token, (penstock.data / "secret.key").read_text().strip()):
            told = first.log() + second.log() + third.log() + penstock.log_text()
            assert secret not in told + json.dumps(records)
