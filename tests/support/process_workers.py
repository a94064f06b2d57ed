"""Process workers in tests: settings, and a look at what they leave behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock_node_agent.runtimes.process import table as process_table
from penstock_node_agent.runtimes.process.spawn import ProcessSettings

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def process_settings(folder: Path, **changes: Any) -> ProcessSettings:
    """Settings of a process runtime whose folders lie in `folder`."""
    fields: dict[str, Any] = {
        "folder": folder / "workers",
        "host": "127.0.0.1",
        "cwd": folder,
        "path": DEFAULT_PATH,
        "home": str(folder),
        "ports": range(20_000, 32_000),
    }
    return ProcessSettings(**fields | changes)


def living(worker_id: str) -> list[process_table.Process]:
    """Processes that carry this worker's id."""
    return process_table.members(process_table.snapshot(), worker_id, None)


def parent_pid(pid: int) -> int:
    """The parent of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") + 2 :].split()[1])


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for something of the kernel's that no event tells."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
