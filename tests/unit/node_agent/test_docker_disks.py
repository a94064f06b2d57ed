"""How disks of workers are measured, over an engine that is played."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock_node_agent.runtimes.docker.disks import DiskWatch


class Engine:
    """Answers as an engine would, and counts the dear question."""

    def __init__(self, folder: Path, base_url: str = "http+docker://localhost") -> None:
        self.base_url = base_url
        self.accounts = 0
        labels = {
            "penstock.worker": "wk-1",
            "penstock.size-bytes": "50000",
            "penstock.mount-path": "/scratch",
        }
        self.item = {"Name": "penstock-wk-1-0", "Mountpoint": str(folder), "Labels": labels}

    def containers(self, **_: Any) -> list[Any]:
        return []

    def volumes(self, **_: Any) -> dict[str, Any]:
        return {"Volumes": [self.item]}

    def df(self) -> dict[str, Any]:
        self.accounts += 1
        return {"Volumes": [self.item | {"UsageData": {"Size": 60_000}}, {"Name": "other"}]}


async def measure(watch: DiskWatch, engine: Any, times: int = 1) -> None:
    def now(work: Any) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(work(engine))
        return future

    for _ in range(10 * times + 1):
        watch.tend(now)


async def test_a_volume_that_can_be_read_is_walked(tmp_path: Path) -> None:
    exceeded: list[str] = []
    watch, engine = DiskWatch("node-a", exceeded.append), Engine(tmp_path)
    await measure(watch, engine)
    assert (exceeded, engine.accounts) == ([], 0)
    (tmp_path / "x").write_bytes(b"x" * 60_000)
    await measure(watch, engine, 2)
    assert (exceeded, engine.accounts) == (["wk-1"], 0)
    problem = watch.problem("wk-1")
    assert problem is not None
    assert "in its local volume at /scratch, more than the 5e-05 GB of its size_gb" in problem
    watch.forget("wk-1")
    assert watch.problem("wk-1") is None


@pytest.mark.parametrize("url", ["http+docker://localhost", "http://10.0.0.1:2375"])
async def test_one_that_cannot_is_in_the_engines_account_now_and_then(
    tmp_path: Path, url: str
) -> None:
    exceeded: list[str] = []
    folder = tmp_path / "none" if url.startswith("http+docker") else tmp_path
    watch, engine = DiskWatch("node-a", exceeded.append), Engine(folder, url)
    await measure(watch, engine)
    assert exceeded == ["wk-1"]
    await measure(watch, engine, 5)
    assert engine.accounts == 1
    await measure(watch, engine, 1)
    assert engine.accounts == 2
