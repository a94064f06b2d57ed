"""When a delivery is tried again, what an answer means, and how fast a receiver is asked."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.webhooks.pace import CONCURRENCY, FAILING_AFTER, MAX_HOLD_S, Pace
from penstock_api.webhooks.schedule import MAX_RETRY_AFTER_S, RetrySchedule, parse_retry_after
from penstock_api.webhooks.verdicts import Answered, Ending, Result, Unanswered, Verdict, judge

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SCHEDULE = RetrySchedule()
RATIOS = st.floats(0, 1, exclude_max=True)
FAILED = Verdict(Ending.AGAIN, 5.0)
DELIVERED = Verdict(Ending.DELIVERED)


def waits(ratio: float) -> list[float]:
    found: list[float] = []
    while (wait_s := SCHEDULE.wait_s(len(found) + 1, ratio)) is not None:
        found.append(wait_s)
    return found


def test_retries_last_about_a_day() -> None:
    assert [round(wait_s) for wait_s in waits(0)] == [
        *(5, 15, 45, 135, 405, 1215, 3645, 10935),
        *(21600, 21600, 21600),
    ]
    assert sum(waits(0)) > 22 * 3600
    assert sum(waits(0.999)) < 28 * 3600


@given(RATIOS, RATIOS)
def test_waits_grow_and_jitter_adds_at_most_a_fifth(one: float, other: float) -> None:
    plain, first, second = waits(0), waits(one), waits(other)
    assert len(plain) == len(first) == SCHEDULE.attempts - 1
    assert plain == sorted(plain)
    for base, a, b in zip(plain, first, second, strict=True):
        assert base <= a <= 1.2 * base
        assert base <= b <= 1.2 * base


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 40, MAX_RETRY_AFTER_S),
        ("Wed, 02 Jan 2030 03:05:05 GMT", 60.0),
        ("Wed, 02 Jan 2030 03:05:05 -0000", 60.0),
        ("Wed, 02 Jan 2030 03:00:00 GMT", 0.0),
        ("Wed, 02 Jan 2036 03:00:00 GMT", MAX_RETRY_AFTER_S),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == expected


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    found = parse_retry_after(header, now=NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER_S


@given(st.integers(200, 299), st.integers(1, 12))
def test_every_2xx_is_success(status: int, attempt: int) -> None:
    verdict = judge(Answered(status), attempt=attempt, schedule=SCHEDULE, ratio=0)
    assert verdict == DELIVERED


results = st.one_of(
    st.builds(Answered, st.integers(100, 599), st.none() | st.floats(0, MAX_RETRY_AFTER_S)),
    st.builds(Unanswered, st.just("no answer")),
)


@given(results, st.integers(1, 20), RATIOS)
def test_what_follows(result: Result, attempt: int, ratio: float) -> None:
    verdict = judge(result, attempt=attempt, schedule=SCHEDULE, ratio=ratio)
    status = result.status if isinstance(result, Answered) else None
    if result.error is None:
        assert verdict.ending is Ending.DELIVERED
    elif status == 410:
        assert verdict.ending is Ending.GONE
    elif attempt >= SCHEDULE.attempts:
        assert verdict.ending is Ending.GIVEN_UP
    else:
        assert verdict.ending is Ending.AGAIN
        assert verdict.wait_s >= (SCHEDULE.wait_s(attempt, 0) or 0)
    asks = isinstance(result, Answered) and status in (429, 503)
    assert verdict.hold_s == ((result.retry_after_s or 0) if asks else 0)  # type: ignore[union-attr]  # asks says so


def test_retry_after_is_waited_for() -> None:
    asked = judge(Answered(503, 300.0), attempt=1, schedule=SCHEDULE, ratio=0)
    assert asked == Verdict(Ending.AGAIN, 300.0, 300.0)
    ignored = judge(Answered(500, 300.0), attempt=1, schedule=SCHEDULE, ratio=0)
    assert ignored == Verdict(Ending.AGAIN, 5.0, 0.0)


def test_a_receiver_that_fails_is_asked_ever_more_slowly() -> None:
    pace, now, holds = Pace(), 1000.0, []
    for failure in range(1, 20):
        pace = pace.after(FAILED, now)
        if failure < FAILING_AFTER:
            assert pace.limit(now) == CONCURRENCY
            continue
        assert pace.limit(now) == 0
        holds.append(pace.hold_until - now)
        now = pace.hold_until
        assert pace.limit(now) == 1
    assert holds[:4] == [1, 2, 4, 8]
    assert holds == sorted(holds)
    assert holds[-1] == MAX_HOLD_S
    failing = pace.after(FAILED, now)
    assert failing.limit(now) == 0
    assert failing.after(DELIVERED, now).limit(now) == CONCURRENCY


def test_retry_after_holds_up_the_whole_webhook() -> None:
    pace = Pace().after(Verdict(Ending.AGAIN, 30.0, hold_s=30.0), 0.0)
    assert pace.limit(29.9) == 0
    assert pace.after(DELIVERED, 10.0).limit(29.9) == 0, "one under way then does not end it"
    assert pace.limit(30.0) == CONCURRENCY


@given(st.lists(st.tuples(st.sampled_from([FAILED, DELIVERED]), st.floats(0, 100))))
def test_no_history_stops_a_receiver_for_ever(history: list[tuple[Verdict, float]]) -> None:
    pace, now = Pace(), 0.0
    for verdict, passed in history:
        now += passed
        pace = pace.after(verdict, now)
    assert pace.limit(now + MAX_HOLD_S) >= 1
    assert 0 <= pace.limit(now) <= CONCURRENCY


def test_an_instant_without_a_zone_is_utc() -> None:
    soon = (NOW + timedelta(seconds=10)).strftime("%a, %d %b %Y %H:%M:%S")
    assert parse_retry_after(soon, now=NOW) == 10.0
