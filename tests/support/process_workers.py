"""Process workers in tests: settings, and a look at what they leave behind."""

from pathlib import Path
from typing import Any

from penstock_node_agent import process_table
from penstock_node_agent.process_runtime import ProcessSettings

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
