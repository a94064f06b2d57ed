"""What a reader is shown, from batches as the stream may have them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.log_reading import Beginning, Continuity, Position, Shown, last_lines
from penstock_client.documents import LogGapDocument, LogLineDocument
from penstock_common.log_stream import StoredBatch
from penstock_common.messages import LogBatch, LogLine

AT = datetime(2030, 1, 2, tzinfo=UTC)


def stored(sequence: int, first: int, count: int, worker_id: str = "wk-1") -> StoredBatch:
    lines = tuple(
        LogLine(n=n, at=AT + timedelta(seconds=n), stream="stdout", text=f"{worker_id} {n}")
        for n in range(first, first + count)
    )
    batch = LogBatch(
        worker_id=worker_id,
        endpoint_id="ep-1",
        node_id="node-1",
        entries=lines,
        next_n=first + count,
    )
    return StoredBatch(sequence, batch)


def history(sizes: list[int], worker_id: str = "wk-1", sequence: int = 1) -> list[StoredBatch]:
    found, first = [], 1
    for size in sizes:
        found.append(stored(sequence, first, size, worker_id))
        first += size
        sequence += 1
    return found


def numbers(shown: list[Shown]) -> list[int]:
    """All numbers that lines and gaps tell, in order."""
    found: list[int] = []
    for item in shown:
        match item.document:
            case LogGapDocument(n=n, last=last):
                found += range(n, last + 1)
            case LogLineDocument(n=n):
                found.append(n)
    return found


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(SIZES, st.data())
def test_whatever_is_missing_or_came_twice_each_number_is_told_once(
    sizes: list[int], data: st.DataObject
) -> None:
    batches = history(sizes)
    held = [batch for batch in batches for _ in range(data.draw(st.sampled_from([0, 1, 1, 2])))]
    continuity = Continuity(Beginning())
    shown = [item for batch in held for item in continuity.read(batch)]

    last = held[-1].batch.next_n - 1 if held else 0
    assert numbers(shown) == list(range(1, last + 1))


@given(SIZES, st.data())
def test_a_reader_that_resumes_sees_exactly_the_rest(sizes: list[int], data: st.DataObject) -> None:
    batches = history(sizes)
    continuity = Continuity(Beginning())
    shown = [item for batch in batches for item in continuity.read(batch)]
    if not shown:
        return
    n = data.draw(st.integers(0, len(shown) - 1))
    position = Position.try_parse(str(shown[n].position))
    assert position is not None

    again = Continuity(Beginning(position.sequence - 1, {"wk-1": position.n + 1}, False, position))
    rest = [x for b in batches if b.sequence >= position.sequence for x in again.read(b)]

    assert rest == shown[n + 1 :]


@given(SIZES, SIZES, st.integers(0, 30))
def test_a_tail_is_the_last_lines_of_all(one: list[int], two: list[int], count: int) -> None:
    histories = {
        "wk-1": history(one),
        "wk-2": history(two, "wk-2", sequence=len(one) + 1),
    }
    beginning = last_lines(histories, count)
    continuity = Continuity(beginning)
    batches = [b for found in histories.values() for b in found if b.sequence > beginning.after]

    shown = [item.document for batch in batches for item in continuity.read(batch)]

    every = sorted(
        (n, w) for w, s in (("wk-1", sum(one)), ("wk-2", sum(two))) for n in range(1, s + 1)
    )
    lines = sorted((x.n, x.worker_id) for x in shown if isinstance(x, LogLineDocument))
    assert len(lines) == len(shown)
    assert [n for n, _ in lines] == [n for n, _ in every[max(0, len(every) - count) :]]


def test_a_tail_that_reaches_the_beginning_says_what_is_older() -> None:
    held = history([3, 3, 3])[1:]  # the first batch was dropped
    continuity = Continuity(last_lines({"wk-1": held}, 100))
    shown = [item.document for batch in held for item in continuity.read(batch)]
    assert isinstance(shown[0], LogGapDocument)
    assert (shown[0].n, shown[0].last, shown[0].why) == (1, 3, "dropped")


def test_a_position_is_two_numbers() -> None:
    assert Position.try_parse("12.34") == Position(12, 34)
    for text in ("", "1", "1.", "a.b", "-1.2", "1.2.3", "1.2\n", "9" * 30 + ".1"):
        assert Position.try_parse(text) is None
