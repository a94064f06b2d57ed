"""When a request that failed is sent again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_client.retrying import (
    NEVER,
    Failure,
    Repeatable,
    RetryPolicy,
    decide_pause_s,
    parse_retry_after_s,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)

times = st.floats(0, 1e6)
ratios = st.floats(0, 1)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 2_000),
    first_pause_s=times,
    longest_pause_s=times,
    total_s=times,
)
failures = st.builds(
    Failure,
    status=st.none() | st.integers(400, 599),
    reason=st.none() | st.sampled_from(["request_under_way", "nats_timeout", "no_capacity"]),
    retry_after_s=st.none() | times,
    maybe_done=st.booleans(),
)
repeatables = st.sampled_from(Repeatable)


@given(policies, failures, repeatables, st.integers(1, 2_000), times, ratios)
def test_every_pause_keeps_to_the_bounds(
    policy: RetryPolicy,
    failure: Failure,
    repeatable: Repeatable,
    attempt: int,
    elapsed_s: float,
    ratio: float,
) -> None:
    pause_s = decide_pause_s(
        policy,
        failure,
        repeatable=repeatable,
        attempt=attempt,
        elapsed_s=elapsed_s,
        ratio=ratio,
    )
    if pause_s is None:
        return
    assert attempt < policy.max_attempts
    assert pause_s >= 0
    assert elapsed_s + pause_s <= policy.total_s
    if failure.retry_after_s is not None:
        assert pause_s == failure.retry_after_s
    else:
        assert pause_s <= policy.longest_pause_s


@given(policies, failures, st.integers(1, 2_000), times, ratios)
def test_what_may_not_be_done_twice_is_sent_again_only_if_it_was_not_done(
    policy: RetryPolicy, failure: Failure, attempt: int, elapsed_s: float, ratio: float
) -> None:
    pause_s = decide_pause_s(
        policy,
        failure,
        repeatable=Repeatable.NO,
        attempt=attempt,
        elapsed_s=elapsed_s,
        ratio=ratio,
    )
    if pause_s is not None:
        assert not failure.maybe_done


@given(failures, repeatables, ratios)
def test_nothing_is_sent_again_that_is_sent_once(
    failure: Failure, repeatable: Repeatable, ratio: float
) -> None:
    assert (
        decide_pause_s(NEVER, failure, repeatable=repeatable, attempt=1, elapsed_s=0.0, ratio=ratio)
        is None
    )


@given(failures, st.integers(1, 20), ratios)
def test_the_more_harmless_a_repeat_is_the_more_is_sent_again(
    failure: Failure, attempt: int, ratio: float
) -> None:
    policy = RetryPolicy(max_attempts=100, total_s=1e9)
    no, keyed, harmless = (
        decide_pause_s(
            policy, failure, repeatable=kind, attempt=attempt, elapsed_s=0.0, ratio=ratio
        )
        is not None
        for kind in (Repeatable.NO, Repeatable.KEYED, Repeatable.HARMLESS)
    )
    assert no <= keyed <= harmless


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Failure(maybe_done=False), "no keyed harmless"),
        (Failure(), "keyed harmless"),
        (Failure(429, "too_many_requests", maybe_done=False), "no keyed harmless"),
        (Failure(502), "keyed harmless"),
        (Failure(503, "nats_disconnected"), "keyed harmless"),
        (Failure(503, "nats_timeout"), "harmless"),
        (Failure(504), "keyed harmless"),
        (Failure(409, "request_under_way"), "keyed harmless"),
        (Failure(409, "app_name_taken"), ""),
        (Failure(412, "precondition_failed"), ""),
        (Failure(400, "malformed_json"), ""),
        (Failure(500, "internal"), ""),
    ],
)
def test_which_failures_are_worth_another_attempt(failure: Failure, again: str) -> None:
    found = [
        kind.value
        for kind in (Repeatable.NO, Repeatable.KEYED, Repeatable.HARMLESS)
        if decide_pause_s(
            RetryPolicy(), failure, repeatable=kind, attempt=1, elapsed_s=0.0, ratio=0.5
        )
        is not None
    ]
    assert found == again.split()


def test_the_bound_of_the_pauses_doubles_up_to_the_longest() -> None:
    policy = RetryPolicy(max_attempts=8, first_pause_s=0.5, longest_pause_s=6.0)
    pauses = [
        decide_pause_s(
            policy,
            Failure(503),
            repeatable=Repeatable.HARMLESS,
            attempt=attempt,
            elapsed_s=0.0,
            ratio=1.0,
        )
        for attempt in range(1, 9)
    ]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 6.0, None]


@pytest.mark.parametrize("change", [{"max_attempts": 0}, {"total_s": -1.0}])
def test_a_policy_that_means_nothing_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        RetryPolicy(**change)  # type: ignore[arg-type]  # of either type


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Tue, 01 Jan 2030 00:01:00 GMT", 60.0),
        ("Tue, 01 Jan 2030 00:01:00 -0000", 60.0),
        ("Mon, 31 Dec 2029 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after_s(header, NOW) == seconds


@given(st.text())
def test_no_header_makes_the_client_fail(header: str) -> None:
    seconds = parse_retry_after_s(header, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**9))
def test_a_date_is_as_far_away_as_it_is(seconds: int) -> None:
    instant = NOW + timedelta(seconds=seconds)
    header = instant.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert parse_retry_after_s(header, NOW) == seconds
