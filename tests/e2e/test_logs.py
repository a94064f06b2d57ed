"""What a worker wrote, through `penstock up` and the command, as a person sees it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.installation import PENSTOCK, ROOT, Installation, eventually

pytestmark = [pytest.mark.slow, pytest.mark.nats]
ECHO = f"{sys.executable} {ROOT}/examples/openai_echo/server.py"


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Installation]:
    async with Installation(tmp_path / "data", "--runtime", "process", "--gpus", "none") as running:
        yield running


async def command(penstock: Installation, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        PENSTOCK,
        *arguments,
        "--data",
        str(penstock.data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_API")},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_worker_that_dies_at_once_is_read_after_its_end(
    penstock: Installation, tmp_path: Path
) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import sys\nprint('loading')\nsys.exit('no model here')\n")
    await penstock.deploy("dies", f"{sys.executable} {program}", workers={"min": 1, "max": 1})

    async def failed() -> list[str]:
        tail: list[str] = (await penstock.api("GET", "/v1/endpoints/dies"))["log_tail"]
        return tail

    tail = await eventually(failed, "a worker has failed")
    assert sorted(tail) == ["loading", "no model here"]

    code, out, err = await command(penstock, "endpoint", "logs", "dies", "--tail", "2")
    assert (code, err) == (0, "")
    # The next worker may be writing the same at this moment.
    texts = [line.partition(" ")[2] for line in out.splitlines()]
    assert len(texts) == 2
    assert set(texts) <= {"loading", "no model here"}
    worker_id = out.partition(" ")[0]
    code, out, err = await command(penstock, "worker", "logs", worker_id, "--follow")
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["loading", "no model here"]
