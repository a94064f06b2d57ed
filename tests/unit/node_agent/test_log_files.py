import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_node_agent.runtimes import log_files

BLOCK = 4_096


def held(path: Path) -> int:
    return path.stat().st_blocks * 512


def first_byte(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return log_files.first_byte(fd, 0)
    finally:
        os.close(fd)


def test_a_cut_keeps_positions_and_the_last_bytes(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (8 * BLOCK - 1) + b"\n")
        assert log_files.cut_if_large(log, limit_bytes=2 * BLOCK)
        writer.write(b"four\n")

    assert log.stat().st_size == 8 * BLOCK + 5
    assert first_byte(log) == 6 * BLOCK
    assert held(log) <= 3 * BLOCK
    assert log_files.tail([log], 1) == ("four",)
    assert len(log_files.tail([log], 5)) == 2


def test_a_small_file_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    assert not log_files.cut_if_large(log, limit_bytes=5)
    log.write_bytes(b"1234")
    assert not log_files.cut_if_large(log, limit_bytes=5)
    assert log.read_bytes() == b"1234"


@settings(max_examples=20)
@given(st.lists(st.integers(1, 6 * BLOCK), max_size=20), st.integers(BLOCK, 8 * BLOCK))
def test_disk_use_stays_bounded_and_the_last_bytes_stay(sizes: list[int], limit_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "stdout.log"
        written = b""
        for n, size in enumerate(sizes):
            written += bytes([1 + n % 250]) * size
            with log.open("ab") as writer:
                writer.write(bytes([1 + n % 250]) * size)
            log_files.cut_if_large(log, limit_bytes)
            assert held(log) < 2 * limit_bytes + 2 * BLOCK
        kept = log.read_bytes()[-limit_bytes:] if sizes else b""
        assert kept == written[-limit_bytes:]


def test_where_no_holes_can_be_punched_all_of_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "stdout.log"
    log.write_bytes(b"x" * 4 * BLOCK)
    monkeypatch.setattr(log_files, "_punch", lambda _fd, _end: False)
    assert log_files.cut_if_large(log, limit_bytes=BLOCK)
    assert log.read_bytes() == b""


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert log_files.tail([tmp_path / "absent"], 5) == ()


def test_a_tail_of_two_files_gives_each_what_the_other_leaves(tmp_path: Path) -> None:
    out, err = tmp_path / "stdout.log", tmp_path / "stderr.log"
    out.write_text("".join(f"out {n}\n" for n in range(10)))
    err.write_text("err 0\n")
    assert log_files.tail([out, err], 3) == ("out 8", "out 9", "err 0")
    err.write_text("".join(f"err {n}\n" for n in range(10)))
    assert log_files.tail([out, err], 4) == ("out 8", "out 9", "err 8", "err 9")
    assert log_files.tail([out, err], 0) == ()


def test_long_lines_and_bad_bytes_are_shown_cut(tmp_path: Path) -> None:
    log = tmp_path / "stdout.log"
    log.write_bytes(b"\xff\xfe\n" + b"x" * 10_000 + b"\n")
    bad, long = log_files.tail([log], 2)
    assert "�" in bad
    assert len(long) == log_files.LINE_LIMIT + 1
