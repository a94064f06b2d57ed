"""The key of secrets in the environment of `penstock up`, and who gets to see it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from penstock_common.sealing import new_key
from tests.support.installation import PENSTOCK, Installation, eventually, processes_with

pytestmark = [pytest.mark.slow, pytest.mark.nats]

#: Answers with what a worker sees of its own and of its secrets.
SHOWS = """
import http.server, json, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
"""


async def test_the_key_of_secrets_goes_to_who_seals_and_opens_and_no_further(
    tmp_path: Path,
) -> None:
    key = new_key()
    program = tmp_path / "shows.py"
    program.write_text(SHOWS)
    options = ("--runtime", "process", "--gpus", "none")
    env = {"PENSTOCK_SECRET_KEY": key}
    async with Installation(tmp_path / "data", *options, env=env) as penstock:
        await penstock.deploy(
            "shows",
            f"{sys.executable} {program}",
            workers={"min": 1},
            health={"path": None},
            secrets={"TOKEN": "opened"},
        )
        status, seen = await penstock.get("shows", "/")
        assert (status, seen["TOKEN"]) == (200, "opened")
        assert key not in json.dumps(seen)
        assert not any("SECRET_KEY" in name for name in seen)

        ready = json.loads((penstock.data / "ready.json").read_text())
        knowing = {ready["pid"], ready["children"]["api"], ready["children"]["node-agent"]}

        async def holders() -> bool:  # a process between fork and exec has its parent's
            return set(processes_with(key)) == knowing

        await eventually(holders, "no other process has the key in its environment")
    assert not (tmp_path / "data/secret.key").exists()
    texts = [path.read_text() for path in (tmp_path / "data/logs").iterdir()]
    assert len(texts) >= 5
    assert not any(key in text for text in [*texts, penstock.log_text()])

    (tmp_path / "data/secret.key").write_text(new_key())
    refused = await asyncio.create_subprocess_exec(
        *(PENSTOCK, "up", "--data", str(tmp_path / "data")),
        *("--api-port", "0", "--router-port", "0", "--nats-port", "0", *options),
        env={**os.environ, **env},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await refused.communicate()
    assert (refused.returncode, b"are different keys" in told) == (2, True)
