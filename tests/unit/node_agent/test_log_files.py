import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from penstock_node_agent import log_files


def test_the_tail_reaches_over_a_cut(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"one\ntwo\nthree\n")
        assert log_files.cut_if_large(log, limit_bytes=10)
        # The writer's file is the same one: what it appends now stands alone in it.
        writer.write(b"four\n")

    assert log.read_bytes() == b"four\n"
    assert log_files.older_half(log).read_bytes() == b"two\nthree\n"
    assert log_files.tail(log, 2) == ("three", "four")
    assert log_files.tail(log, 1) == ("four",)


def test_a_small_file_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    assert not log_files.cut_if_large(log, limit_bytes=5)
    log.write_bytes(b"1234")
    assert not log_files.cut_if_large(log, limit_bytes=5)
    assert log.read_bytes() == b"1234"


@given(st.lists(st.binary(max_size=300), max_size=60), st.integers(50, 2_000))
def test_disk_use_stays_bounded_however_much_is_written(
    chunks: list[bytes], limit_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "output.log"
        for chunk in chunks:
            with log.open("ab") as writer:
                writer.write(chunk)
            log_files.cut_if_large(log, limit_bytes)
            used = sum(path.stat().st_size for path in Path(folder).iterdir())
            assert used < 2 * limit_bytes + 300


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert log_files.tail(tmp_path / "absent", 5) == ()


def test_long_lines_and_bad_bytes_are_shown_cut(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(b"\xff\xfe\n" + b"x" * 10_000 + b"\n")
    bad, long = log_files.tail(log, 2)
    assert "�" in bad
    assert len(long) == log_files.LINE_LIMIT + 1
