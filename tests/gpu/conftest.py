"""These tests need an NVIDIA GPU and its driver; elsewhere they are skipped, loudly.

A GPU is hardware that most machines lack, CI's among them, so PENSTOCK_REQUIRE_ALL leaves them out.
"""

import pynvml
import pytest


def _lacks() -> str | None:
    """What this machine lacks; None = nothing."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"an NVIDIA driver ({error})"
    try:
        n_gpus = pynvml.nvmlDeviceGetCount()
    finally:
        pynvml.nvmlShutdown()
    return None if n_gpus else "an NVIDIA GPU"


@pytest.fixture(autouse=True)
def _gpu() -> None:
    lacks = _lacks()
    if lacks is not None:
        pytest.skip(f"SKIPPED: this machine lacks {lacks}")
