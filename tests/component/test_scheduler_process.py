"""The scheduler's process at its edges."""

import os
import subprocess
import sys


def test_wrong_settings_end_it_with_2_and_say_which() -> None:
    env = {**os.environ, "PENSTOCK_SCHEDULER_LEASE_TTL_S": "soon"}
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_scheduler"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "penstock-scheduler: wrong settings" in ended.stderr
    assert "lease_ttl_s" in ended.stderr
