"""What a process worker's folder holds, so that a later agent process can take it over.

`record.json` is written before the spawn (without a pid: an intent) and after it. An agent that
dies in between leaves an intent; the next one kills whatever carries that worker's id and starts
afresh.
"""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from penstock_common.messages import Message

RECORD_NAME: Final = "record.json"


class ProcessRecord(Message):
    """A worker that was, or was about to be, spawned."""

    worker_id: str
    endpoint_id: str = ""
    port: int
    #: start ticks count from this boot
    boot_id: str
    #: None = an intent
    pid: int | None = None
    started_ticks: int = 0


def write_record(folder: Path, record: ProcessRecord) -> None:
    """Put the record into the worker's folder, whole or not at all."""
    fresh = folder / (RECORD_NAME + ".new")
    fresh.write_bytes(record.encode())
    fresh.replace(folder / RECORD_NAME)


def try_read_record(folder: Path) -> ProcessRecord | None:
    """The record in this folder; None when there is none that can be read."""
    try:
        return ProcessRecord.decode((folder / RECORD_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
