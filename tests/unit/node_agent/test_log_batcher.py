"""Lines to batches: whatever is read, every number is accounted for once and in order."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from penstock_common.messages import LogGap, LogLine
from penstock_node_agent.logs.batcher import (
    BATCH_BYTES,
    BURST_BYTES,
    HELD_BACK_LINES,
    LINE_COST,
    MOST_WAIT_S,
    MOST_WAITING_BYTES,
    RATE_BYTES_PER_S,
    LogBatcher,
)
from penstock_node_agent.runtimes.output import Cursor, Output, OutputLine, OutputLost

AT = datetime(2030, 1, 2, tzinfo=UTC)


def line(text: str | bytes, cursor: Cursor = ()) -> OutputLine:
    data = text.encode() if isinstance(text, str) else text
    return OutputLine(None, "stdout", data, False, cursor)


def drain(batcher: LogBatcher) -> list[LogLine | LogGap]:
    found: list[LogLine | LogGap] = []
    while batcher.waiting:
        found += batcher.take()[0]
    return found


def last_of(entry: LogLine | LogGap) -> int:
    return entry.last if isinstance(entry, LogGap) else entry.n


ITEMS = st.lists(
    st.one_of(
        st.integers(0, 200_000).map(lambda size: line(b"x" * min(size, 16_000))),
        st.integers(1, 400).map(lambda n: n),  # so many lines of 8 KiB
        st.one_of(st.none(), st.integers(0, 1_000_000)).map(lambda n: OutputLost(n, ())),
    ),
    max_size=20,
)


def spread(items: list[OutputLine | OutputLost | int]) -> Output:
    found: Output = []
    for item in items:
        if isinstance(item, int):
            found += [line(b"y" * 8_000)] * item
        else:
            found.append(item)
    return found


@given(st.lists(st.tuples(ITEMS, st.floats(0, 5), st.booleans()), max_size=8))
def test_every_number_stands_in_a_line_or_in_a_gap(
    reads: list[tuple[list[OutputLine | OutputLost | int], float, bool]],
) -> None:
    batcher, now = LogBatcher(), 0.0
    seen: list[LogLine | LogGap] = []
    behind = 1
    for items, later, take in reads:
        now += later
        batcher.add(spread(items), AT, now)
        while take and batcher.waiting:
            entries, behind, _ = batcher.take()
            seen += entries
    batcher.end(now)
    while batcher.waiting:
        entries, behind, _ = batcher.take()
        seen += entries

    expected = 1
    for entry in seen:
        assert entry.n == expected
        assert last_of(entry) >= entry.n
        expected = last_of(entry) + 1
    assert batcher.next_n == behind == expected


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 2)), max_size=40))
def test_a_worker_gets_no_more_than_its_share(writes: list[tuple[int, float]]) -> None:
    batcher, now, kept = LogBatcher(), 0.0, 0
    for count, later in writes:
        now += later
        batcher.add([line(b"z" * 16_000)] * count, AT, now)
        kept += sum(len(e.text) + LINE_COST for e in drain(batcher) if isinstance(e, LogLine))
        assert kept <= BURST_BYTES + now * RATE_BYTES_PER_S


def test_what_is_kept_of_a_flood_stands_in_long_stretches_and_its_end_comes() -> None:
    batcher, now = LogBatcher(), 0.0
    found: list[LogLine | LogGap] = []
    for _ in range(200):  # 20 s of 2 MB/s
        batcher.add([line("x" * 100)] * 1_000, AT, now)
        now += 0.1
        found += drain(batcher)
    batcher.end(now)
    found += drain(batcher)

    gaps = [entry for entry in found if isinstance(entry, LogGap)]
    assert {gap.why for gap in gaps} == {"too_fast"}
    assert len(gaps) <= 12
    assert [e.n for e in found[-HELD_BACK_LINES:]] == list(
        range(200_001 - HELD_BACK_LINES, 200_001)
    )


def test_a_flood_on_one_output_silences_no_word_on_the_other() -> None:
    batcher = LogBatcher()
    reason = OutputLine(None, "stderr", b"the reason", False, ())
    for n in range(30):
        batcher.add([line("x" * 100)] * 1_000, AT, n / 100)
    batcher.add([reason], AT, 0.3)
    batcher.add([line("x" * 100)] * 1_000, AT, 0.31)

    found = drain(batcher)

    assert isinstance(found[-1], LogLine)
    assert (found[-1].text, found[-1].n) == ("the reason", 30_001)
    assert isinstance(found[-2], LogGap)
    assert found[-2].last == 30_000


def test_nothing_is_dropped_of_what_is_written_slowly() -> None:
    batcher, now = LogBatcher(), 0.0
    for n in range(5_000):
        batcher.add([line(f"line {n}")], AT, now)
        now += 0.01
        assert all(isinstance(entry, LogLine) for entry in drain(batcher))


def test_one_who_does_not_heed_full_drops_the_oldest_and_says_so() -> None:
    batcher = LogBatcher()
    n_lines = 2 * MOST_WAITING_BYTES // 8_000 + 10
    for _ in range(n_lines):
        batcher.add([line(b"y" * 7_900)], AT, 0.0)
    assert batcher.full

    first, *rest = drain(batcher)

    assert isinstance(first, LogGap)
    assert (first.n, first.why) == (1, "behind")
    assert [entry.n for entry in rest] == list(range(first.last + 1, n_lines + 1))


def test_a_batch_is_bounded_and_due_by_its_first_line() -> None:
    batcher = LogBatcher()
    batcher.add([line("one")], AT, 10.0)
    batcher.add([line("two")], AT, 10.05)
    assert round(batcher.due_in(10.05), 6) == round(MOST_WAIT_S - 0.05, 6)
    assert batcher.due_in(11.0) == 0.0
    batcher.add([line(b"y" * 10_000, ("run", n)) for n in range(8)], AT, 10.05)
    assert batcher.due_in(10.05) == 0.0
    sizes = []
    while batcher.waiting:
        entries, next_n, _ = batcher.take()
        assert next_n == entries[-1].n + 1
        sizes.append(sum(len(e.text) + LINE_COST for e in entries if isinstance(e, LogLine)))
    assert max(sizes) <= BATCH_BYTES
    assert len(sizes) == 3


def test_a_batch_carries_the_cursor_behind_its_last_line() -> None:
    batcher = LogBatcher(next_n=8, cursor=("run", 7))
    assert batcher.take() == ((), 8, ("run", 7))
    batcher.add([line("a", ("run", 8)), line("b", ("run", 9))], AT, 0.0)
    entries, next_n, cursor = batcher.take()
    assert ([e.n for e in entries], next_n, cursor) == ([8, 9], 10, ("run", 9))


def test_bytes_that_are_no_text_are_replaced() -> None:
    batcher = LogBatcher()
    batcher.add([line(b"a\xff\xfeb")], AT, 0.0)
    ((entry,), _, _) = batcher.take()
    assert isinstance(entry, LogLine)
    assert entry.text == "a\ufffd\ufffdb"
