"""What a test needs of the machine."""

import os

import pytest


def require(condition: bool, what: str) -> None:
    """Skip loudly when something is missing; with PENSTOCK_REQUIRE_ALL=1 (CI) fail instead."""
    if condition:
        return
    if os.environ.get("PENSTOCK_REQUIRE_ALL") == "1":
        pytest.fail(f"this machine lacks {what}, and PENSTOCK_REQUIRE_ALL=1")
    pytest.skip(f"SKIPPED: this machine lacks {what}")
