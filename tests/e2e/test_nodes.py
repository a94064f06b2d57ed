"""A second node joins, takes the workers that need GPUs, and leaves."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.installation import ROOT, Installation, eventually

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
AGENT = str(Path(sys.executable).with_name("penstock-node-agent"))
pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.timeout(180)]


@asynccontextmanager
async def joined(penstock: Installation, name: str, gpus: str) -> AsyncIterator[None]:
    """A node agent as the README starts one on a GPU host."""
    folder = penstock.data.parent / name
    folder.mkdir()
    settings = {
        "NATS_URL": penstock.urls["nats"],
        "NATS_USER": "penstock",
        "NATS_PASSWORD": (penstock.data / "nats.password").read_text().strip(),
        "SECRET_KEY_FILE": str(penstock.data / "secret.key"),
        "NODE_ID": f"node-{name}",
        "NODE_ADDRESS": "127.0.0.1",
        "RUNTIME": "process",
        "GPUS": gpus,
        "DATA_DIR": str(folder),
    }
    log = (folder / "agent.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        AGENT,
        env={**os.environ, **{f"PENSTOCK_NODE_AGENT_{k}": v for k, v in settings.items()}},
        stdout=log,
        stderr=log,
    )
    log.close()
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def nodes(penstock: Installation) -> dict[str, tuple[int, int]]:
    """Node → (GPUs free, GPUs in all)."""
    answer = await penstock.api("GET", "/v1/nodes")
    return {n["id"]: (n["gpus_free"], n["gpus_total"]) for n in answer["nodes"]}


async def test_workers_that_need_gpus_go_where_gpus_are_and_share_none(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "none")
    async with Installation(tmp_path / "data", *options) as penstock:
        made = await penstock.deploy(
            "gauge",
            f"sh -c 'echo gpus=$CUDA_VISIBLE_DEVICES; exec {GAUGE}'",
            gpu={"count": 2, "products": ["rtx-4090-24gb"]},
            workers={"min": 2, "max": 3},
            secrets={"TOKEN": "canary-7531"},
        )
        assert "canary-7531" not in str(made)

        async def lacks_gpus() -> bool:
            shown = await penstock.api("GET", "/v1/endpoints/gauge")
            return bool(shown["reason"] == "no_capacity")

        await eventually(lacks_gpus, "the endpoint says that there are no GPUs")

        async with joined(penstock, "big", "4 x rtx-4090-24gb"):

            async def two_run() -> bool:
                workers = await penstock.workers("gauge")
                return [w["state"] for w in workers] == ["running"] * 2

            await eventually(two_run, "two workers run on the node that joined")
            workers = await penstock.workers("gauge")
            assert {w["node_id"] for w in workers} == {"node-big"}
            assert len({gpu for w in workers for gpu in w["gpus"]}) == 4
            assert (await nodes(penstock))["node-big"] == (0, 4)
            status, _ = await penstock.get("gauge", "/")
            assert status == 200

        async def has_left() -> bool:
            return "node-big" not in await nodes(penstock)

        await eventually(has_left, "the node has left")
        await penstock.no_workers("gauge")
