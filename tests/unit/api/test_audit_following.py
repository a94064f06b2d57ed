"""What a follower of the audit trail is told: what is missing, and what is held back for a moment."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.audit.following import HELD_BACK_S, ShownRecords, find_trail_gap, held_back_s
from penstock_api.audit.reader import StoredRecord
from penstock_api.following import resume_behind
from penstock_client.documents import AuditGapDocument, AuditRecordDocument
from penstock_common.messages import AuditRecord
from penstock_common.nats.stream_reader import Bounds
from tests.fakes.clock import EPOCH


def stored(sequence: int, *, age_s: float = 0.0, status: int | None = None) -> StoredRecord:
    at = EPOCH - timedelta(seconds=age_s)
    return StoredRecord(
        sequence,
        AuditRecord(
            audit_id=f"au-{sequence}", at=at, last_at=at, action="a", route="b", status=status
        ),
    )


def test_an_attempt_of_just_now_is_held_back_and_no_other_record() -> None:
    assert held_back_s([], EPOCH) == 0
    assert held_back_s([stored(1, status=200), stored(2, age_s=HELD_BACK_S)], EPOCH) == 0
    assert held_back_s([stored(1), stored(2, status=200)], EPOCH) == HELD_BACK_S
    assert held_back_s([stored(1, age_s=HELD_BACK_S / 4)], EPOCH) == HELD_BACK_S * 3 / 4


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([None, 200])), max_size=5))
def test_nobody_waits_longer_whatever_the_clocks_say(
    records: list[tuple[float, int | None]],
) -> None:
    wait_s = held_back_s([stored(1, age_s=a, status=s) for a, s in records], EPOCH)
    assert 0 <= wait_s <= HELD_BACK_S
    assert (wait_s > 0) == any(s is None and a < HELD_BACK_S for a, s in records)


def test_only_what_is_certainly_missing_is_told() -> None:
    def gap(position: int, first: int, last: int) -> AuditGapDocument | None:
        return find_trail_gap(position, Bounds(first, last, EPOCH))

    assert gap(9, 1, 9) is None
    assert gap(3, 7, 9) is None, "4 to 6 may be attempts whose outcomes are 7 to 9"
    assert gap(0, 1, 0) is None, "nothing was ever stored"
    assert gap(9, 10, 9) is None, "it has seen all"
    assert gap(3, 10, 9) == AuditGapDocument(first=4, last=9, why="expired")
    assert gap(10, 1, 9) == AuditGapDocument(first=None, last=None, why="renewed")


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_who_goes_on_misses_nothing_that_is_kept(position: int, first: int, last: int) -> None:
    bounds = Bounds(first, max(last, first - 1), EPOCH)
    behind = resume_behind(position, bounds)
    assert behind <= bounds.last
    assert behind == position or (behind == 0 and position > bounds.last)


def test_records_are_told_as_documents_with_their_sequences() -> None:
    shown = ShownRecords(stored=(stored(3, status=200), stored(5)), position=5)
    told = [(n, AuditRecordDocument.model_validate_json(data)) for n, data in shown.entries()]
    assert [(n, d.id, d.status) for n, d in told] == [(3, "au-3", 200), (5, "au-5", None)]
    assert all("\n" not in data for _, data in shown.entries())
