"""Lines from bytes: of files, and of an engine's frames."""

import struct
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from penstock_common.messages import OutputName
from penstock_node_agent.runtimes.docker.logs import FrameReader, LogPosition
from penstock_node_agent.runtimes.output import (
    LINE_BYTES,
    SKIM_KEEPS,
    Cursor,
    LineCutter,
    OutputLine,
    OutputLost,
    read_all,
)

Cut = tuple[bytes, bool]


def cut_in(chunks: list[bytes], cutter: LineCutter) -> tuple[list[Cut], list[int]]:
    """Lines of these chunks, and the position behind each."""
    lines: list[Cut] = []
    ends: list[int] = []
    at = 0
    for chunk in chunks:
        begin = at

        def add(line: bytes, cut: bool, end: int, begin: int = begin) -> None:
            lines.append((line, cut))
            ends.append(begin + end)

        cutter.feed(chunk, add)
        at += len(chunk)
    rest = cutter.rest()
    if rest is not None:
        lines.append((rest, False))
        ends.append(at)
    return lines, ends


def expected(data: bytes) -> list[Cut]:
    *whole, rest = data.split(b"\n")
    lines = [*whole, rest] if rest else whole
    return [(line[:LINE_BYTES], len(line) > LINE_BYTES) for line in lines]


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\n", b"x" * (LINE_BYTES - 1), b"y" * LINE_BYTES, b"z" * (LINE_BYTES + 1)]),
)


@given(st.lists(PIECES, max_size=12))
def test_lines_do_not_depend_on_how_the_bytes_come(chunks: list[bytes]) -> None:
    lines, ends = cut_in(chunks, LineCutter())
    assert lines == expected(b"".join(chunks))
    assert ends == sorted(ends)


@given(st.lists(PIECES, max_size=8), st.data())
def test_behind_every_line_the_rest_is_read_as_before(
    chunks: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(chunks)
    lines, ends = cut_in([whole], LineCutter())
    if not lines:
        return
    n = data.draw(st.integers(0, len(lines) - 1))
    inside = whole[ends[n] - 1 : ends[n]] != b"\n"
    again, _ = cut_in([whole[ends[n] :]], LineCutter(in_long_line=inside))
    assert again == lines[n + 1 :]


def frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(payload)) + payload


def at(second: int, nano: int = 0) -> bytes:
    return f"2030-01-02T03:04:{second:02d}.{nano:09d}Z".encode()


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=30)), max_size=10),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_frames_do_not_depend_on_how_the_bytes_come(
    frames: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    data = b"".join(frame(*one) for one in frames)
    reader, found, n = FrameReader(), [], 0
    while data:
        size = sizes[n % len(sizes)]
        found += list(reader.feed(data[:size]))
        data, n = data[size:], n + 1
    names = {1: "stdout", 2: "stderr"}
    assert found == [(names[stream], payload) for stream, payload in frames]


def test_a_frame_is_a_line_with_the_engine_s_time() -> None:
    position = LogPosition("c")
    (line,) = position.take("stderr", at(5, 123_456_789) + b" one two\n")
    assert isinstance(line, OutputLine)
    assert line.at == datetime(2030, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)
    assert (line.stream, line.data, line.cut) == ("stderr", b"one two", False)


def test_a_long_line_s_first_frame_is_all_that_is_kept_of_it() -> None:
    position = LogPosition("c")
    found = [
        *position.take("stdout", at(1) + b" " + b"x" * LINE_BYTES),
        *position.take("stderr", at(1) + b" between\n"),
        *position.take("stdout", at(1) + b" " + b"y" * LINE_BYTES),
        *position.take("stdout", at(1) + b" end\n"),
        *position.take("stdout", at(2) + b" next\n"),
        *position.take("stdout", at(3) + b" no line break"),
    ]
    lines = [(x.data[:8], x.cut) for x in found if isinstance(x, OutputLine)]
    assert lines == [
        (b"x" * 8, True),
        (b"between", False),
        (b"next", False),
        (b"no line ", False),
    ]


NAMES: list[OutputName] = ["stdout", "stderr"]
LOG = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.booleans()), max_size=14)


@given(LOG, st.data())
def test_a_log_is_gone_on_with_behind_any_line(
    steps: list[tuple[OutputName, int, bool]], data: st.DataObject
) -> None:
    """Also among frames of the very same time, and inside of a line of several frames."""
    log, times = [], {"stdout": 0, "stderr": 0}
    for n, (stream, later, long) in enumerate(steps):
        times[stream] += later
        text = b"%d " % n + b"x" * LINE_BYTES if long else b"%d\n" % n
        log.append((stream, at(times[stream]) + b" " + text))

    def read(cursor: Cursor) -> list[OutputLine]:
        position = LogPosition("c", cursor)
        position.reconnect()
        found = [item for one in log for item in position.take(*one)]
        assert not any(isinstance(item, OutputLost) for item in found)
        return [item for item in found if isinstance(item, OutputLine)]

    lines = read(())
    if lines:
        n = data.draw(st.integers(0, len(lines) - 1))
        assert [x.data for x in read(lines[n].cursor)] == [x.data for x in lines[n + 1 :]]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=200),
    st.sets(st.sampled_from(NAMES)),
)
def test_what_is_skimmed_is_counted_and_its_last_lines_come(
    steps: list[tuple[OutputName, bool]], skimmed: set[OutputName]
) -> None:
    frames = [
        (name, at(n % 60, n) + b" " + (b"x" * LINE_BYTES if long else b"%d\n" % n))
        for n, (name, long) in enumerate(steps)
    ]
    found = LogPosition("c").take_all(frames, skimmed.__contains__)

    every = LogPosition("c").take_all(frames, read_all)
    assert not any(isinstance(item, OutputLost) for item in every)
    counted = sum((x.lines or 0) if isinstance(x, OutputLost) else 1 for x in found)
    assert counted == len(every)
    kept = [x for x in found if isinstance(x, OutputLine)]
    for name in NAMES:
        all_of = [x.data for x in every if isinstance(x, OutputLine) and x.stream == name]
        kept_of = [x.data for x in kept if x.stream == name]
        assert kept_of == all_of[len(all_of) - len(kept_of) :]
        n_frames = sum(frame[0] == name for frame in frames)
        if name not in skimmed or n_frames <= SKIM_KEEPS:
            assert kept_of == all_of


def test_a_log_that_lacks_the_last_line_has_lost_others_too() -> None:
    position = LogPosition("c")
    (line,) = position.take("stdout", at(1) + b" one\n")
    again = LogPosition("c", line.cursor)
    assert again.reconnect() is not None

    found = again.take("stdout", at(9) + b" later\n")

    assert [type(item) for item in found] == [OutputLost, OutputLine]
    assert [type(item) for item in again.take("stdout", at(9) + b" more\n")] == [OutputLine]


def test_a_cursor_of_another_container_is_void() -> None:
    (line,) = LogPosition("old").take("stdout", at(5) + b" one\n")
    position = LogPosition("new", line.cursor)
    assert position.reconnect() is None
    assert len(position.take("stdout", at(1) + b" one\n")) == 1
