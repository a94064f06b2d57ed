"""What the GPU tests share: the worker that computes, its answer, and how full a GPU is."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml

WORKER = f"{sys.executable} {Path(__file__).with_name('cuda_worker.py')}"
#: GPU memory that the worker holds; its CUDA context comes on top.
BALLAST_BYTES = 512 * 1024**2
#: So far may a GPU's used memory differ, once a worker has gone, from what it was before.
SLACK_BYTES = 64 * 1024**2
N = 96


def worker_env() -> dict[str, str]:
    """Environment of the worker; where CUDA's library lies is sometimes told by a variable."""
    env = {"BALLAST_BYTES": str(BALLAST_BYTES)}
    for name in ("LD_LIBRARY_PATH", "LIBCUDA"):
        if name in os.environ:
            env[name] = os.environ[name]
    return env


def expected_row(n: int = N) -> list[float]:
    """Last row of the worker's product, multiplied out here; small whole numbers are exact."""
    last = n - 1
    return [float(sum(((last + k) % 7) * ((k * j) % 5) for k in range(n))) for j in range(n)]


def used_bytes(uuid: str) -> int:
    """GPU memory in use, as NVML tells it now."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    finally:
        pynvml.nvmlShutdown()


async def until(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    """Wait for what only NVML tells."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - there is nothing to await
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None
