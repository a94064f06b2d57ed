"""Log files of process workers: bounded on disk, read from their end.

A worker writes to its file itself, so its lines survive the agent. The file is opened for append,
which lets it be cut to nothing under the writer: what it held becomes the older half first. Lines
written between the copy and the cut are lost; nothing else is.
"""

import os
from pathlib import Path
from typing import Final

#: A worker's file is cut at this size, so it takes at most twice as much on disk (plus what a
#: worker writes in the second between two looks).
LIMIT_BYTES: Final = 10 * 1024 * 1024
#: A longer line is shown by its beginning.
LINE_LIMIT: Final = 2_000
_TAIL_BYTES: Final = 64 * 1024


def older_half(path: Path) -> Path:
    """Where the lines before the last cut lie."""
    return path.with_name(path.name + ".1")


def cut_if_large(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Make the file's content its older half once it has `limit_bytes`; says whether it did."""
    try:
        if path.stat().st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    with path.open("r+b") as source, older_half(path).open("wb") as target:
        source.seek(-min(limit_bytes, os.fstat(source.fileno()).st_size), os.SEEK_END)
        while chunk := source.read(1024 * 1024):
            target.write(chunk)
        source.truncate(0)
    return True


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of the file and its older half, oldest first."""
    text = _end_of(path)
    if text.count(b"\n") < lines and len(text) < _TAIL_BYTES:
        text = _end_of(older_half(path)) + text
    found = text.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []
    return tuple(clipped(line) for line in found)


def clipped(line: str) -> str:
    """The line, cut where it is longer than `LINE_LIMIT` characters."""
    return line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT] + "…"


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - _TAIL_BYTES))
            return source.read()
    except FileNotFoundError:
        return b""
