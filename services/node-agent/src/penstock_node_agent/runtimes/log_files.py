"""Log files of process workers: bounded on disk, read from their end.

A worker writes to its files itself, one for each output, so its lines survive the agent. Where a
file has grown too large, the blocks of its beginning are given back (a hole is punched): the
writer does not notice, positions stay what they were, and no line is lost that is not the oldest.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: A file that holds twice as much is cut to its last so many bytes.
LIMIT_BYTES: Final = 10 * 1024 * 1024
#: A longer line is shown by its beginning.
LINE_LIMIT: Final = 2_000
_TAIL_BYTES: Final = 64 * 1024

# linux/falloc.h
_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02


def cut_if_large(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """Keep only the file's last `limit_bytes` once it holds twice that; says whether it did.

    Where the file system punches no holes, all of it goes.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        found = os.fstat(fd)
        held = found.st_size - first_byte(fd, 0)
        if held < 2 * limit_bytes:
            return False
        # Whole blocks: in one that goes by half, nobody could tell the hole from what was written.
        end = (found.st_size - limit_bytes) // found.st_blksize * found.st_blksize
        if end and not _punch(fd, end):
            os.ftruncate(fd, 0)
        return bool(end)
    finally:
        os.close(fd)


def first_byte(fd: int, offset: int) -> int:
    """Position of the first byte at or behind `offset` that the file still has, or its end."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # nothing but a hole, or nothing, behind it
            raise
        return max(offset, os.fstat(fd).st_size)


def _punch(fd: int, end: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _PUNCH_HOLE | _KEEP_SIZE
    if libc.fallocate(fd, mode, ctypes.c_int64(0), ctypes.c_int64(end)) == 0:
        return True
    code = ctypes.get_errno()
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    return False


def tail(paths: Sequence[Path], lines: int) -> tuple[str, ...]:
    """The last lines of these files, those of the first file first.

    No file says when its lines were written, so each gives what it has, and where that is too
    much a file gives more than its share only where another has less.
    """
    ends = [_end_of(path).decode(errors="replace").splitlines() for path in paths]
    ends = [end[-lines:] if lines > 0 else [] for end in ends]
    while sum(map(len, ends)) > lines > 0:
        del max(ends, key=len)[0]
    return tuple(clipped(line) for end in ends for line in end)


def clipped(line: str) -> str:
    """The line, cut where it is longer than `LINE_LIMIT` characters."""
    return line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT] + "…"


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            source.seek(first_byte(source.fileno(), max(0, size - _TAIL_BYTES)))
            return source.read()
    except FileNotFoundError:
        return b""
