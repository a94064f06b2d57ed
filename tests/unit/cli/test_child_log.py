"""The log of a child on a disk that fills and empties, and over its limit."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock_cli.local.child_log import ChildLog
from tests.fakes.clock import ManualClock


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """Writes beyond are refused, and one that crosses the limit is cut, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_refuses_is_dropped_and_counted(tmp_path: Path) -> None:
    path, troubles = tmp_path / "api.log", list[str]()
    log = ChildLog(path, ManualClock(), troubles.append)
    path.symlink_to("/dev/full")
    for n in range(3):
        log.write(b"lost %d\n" % n)
    assert len(troubles) == 1
    assert "No space left on device" in troubles[0]
    path.unlink()

    log.write(b"kept\n")
    log.write(b"kept too\n")
    told, *kept = path.read_bytes().splitlines()
    assert json.loads(told)["dropped"] == 3
    assert kept == [b"kept", b"kept too"]
    path.unlink()
    path.symlink_to("/dev/full")
    log.close()
    log.write(b"lost again\n")
    assert len(troubles) == 2
    log.close()


def test_a_line_that_the_disk_cut_spoils_no_other(tmp_path: Path) -> None:
    path, troubles = tmp_path / "api.log", list[str]()
    log = ChildLog(path, ManualClock(), troubles.append)
    log.write(b"whole\n")
    with no_file_larger_than(10):
        log.write(b"this one is cut\n")
        log.write(b"this one is refused\n")
    log.write(b"whole again\n")
    first, cut, told, last = path.read_bytes().splitlines()
    assert (first, cut, last) == (b"whole", b"this", b"whole again")
    assert json.loads(told)["dropped"] == 2
    assert len(troubles) == 1
    log.close()


def test_a_file_at_its_limit_is_put_aside_once(tmp_path: Path) -> None:
    path, troubles = tmp_path / "api.log", list[str]()
    line = b"x" * 99 + b"\n"
    log = ChildLog(path, ManualClock(), troubles.append, limit_bytes=300)
    for _ in range(8):
        log.write(line)
    assert path.stat().st_size == 200
    aside = tmp_path / "api.log.1"
    assert aside.stat().st_size == 300
    log.close()

    again = ChildLog(path, ManualClock(), troubles.append, limit_bytes=200)
    again.write(line)
    again.close()
    assert path.stat().st_size == 100
    assert aside.stat().st_size == 200
    assert not troubles
