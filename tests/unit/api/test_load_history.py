"""An hour of an endpoint's load, in buckets."""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_api.load_history import BUCKET_S, KEPT, STATES, LoadHistory, Step
from penstock_api.loads import Times
from penstock_common.messages import QueueReport
from penstock_common.sketch import Buckets, DecayedSketch
from penstock_common.states import WorkerState

#: Begins in the middle of a bucket.
BEGAN = 1_900_000_003.0
FIRST = math.ceil(BEGAN / BUCKET_S) * BUCKET_S


def report(router_id: str = "rt-1", endpoint_id: str = "ep-1", **fields: float) -> QueueReport:
    return QueueReport.model_validate(
        {
            "router_id": router_id,
            "endpoint_id": endpoint_id,
            "sent_at": datetime(2030, 1, 1, tzinfo=UTC),
            "waiting": 0,
            "oldest_wait_s": 0.0,
            "in_flight": 0,
            "arrivals_total": 0,
            "completions_total": 0,
            **fields,
        }
    )


def close(
    history: LoadHistory,
    at: float,
    served: Buckets = (),
    began: Buckets = (),
    workers: Mapping[str, Counter[WorkerState]] | None = None,
) -> None:
    history.close(at, lambda _: Times(served, began), workers or {})


def test_when_answers_began_is_kept_beside_how_long_they_took() -> None:
    history, took, began = LoadHistory(BEGAN), DecayedSketch(), DecayedSketch()
    history.note(report(arrivals_total=1), FIRST + 1)
    took.add(9.0)
    began.add(0.25)
    close(history, FIRST + BUCKET_S, took.read(0), began.read(0))
    history.note(report(arrivals_total=2), FIRST + BUCKET_S + 1)
    close(history, FIRST + 2 * BUCKET_S, took.read(0))  # a router that left before its answers did
    first, second = steps(history)
    (both,) = steps(history, step_s=2 * BUCKET_S) if FIRST % (2 * BUCKET_S) == 0 else (first,)
    for step in (first, both):
        assert step.service_s == pytest.approx((9.0,) * 3, rel=0.06)
        assert step.first_byte_s == pytest.approx((0.25,) * 3, rel=0.06)
    assert (second.first_byte_s, second.service_s) == (None, first.service_s)


def steps(history: LoadHistory, window_s: int = 3_600, step_s: int = BUCKET_S) -> list[Step]:
    return history.steps("ep-1", window_s=window_s, step_s=step_s)


def test_a_bucket_counts_what_came_and_keeps_the_most_at_once() -> None:
    history = LoadHistory(BEGAN)
    history.note(report(arrivals_total=1, in_flight=1), FIRST + 1)
    history.note(report(arrivals_total=5, waiting=2, in_flight=2, oldest_wait_s=0.5), FIRST + 2)
    history.note(report(arrivals_total=5, completions_total=5, errors_total=1), FIRST + 3)
    sketch = DecayedSketch()
    for _ in range(10):
        sketch.add(2.0)
    workers = {"ep-1": Counter({WorkerState.RUNNING: 2, WorkerState.STARTING: 1})}
    close(history, FIRST + BUCKET_S, sketch.read(0), workers=workers)
    (step,) = steps(history)
    assert (step.at, step.requests, step.completed, step.errors) == (FIRST, 5, 5, 1)
    assert (step.waiting, step.in_flight, step.oldest_wait_s) == (2, 2, 0.5)
    assert dict(zip(STATES, step.workers, strict=True))[WorkerState.RUNNING] == 2
    assert step.service_s is not None
    assert all(abs(time_s - 2.0) <= 0.1 for time_s in step.service_s)


def test_levels_are_summed_over_the_routers_that_are_heard() -> None:
    history = LoadHistory(BEGAN)
    history.note(report("rt-1", arrivals_total=3, waiting=3), FIRST + 1)
    history.note(report("rt-2", arrivals_total=4, waiting=4), FIRST + 2)
    history.note(report("rt-2", arrivals_total=4, waiting=1), FIRST + 9)  # rt-1 is silent by now
    close(history, FIRST + BUCKET_S)
    history.note(report("rt-2", arrivals_total=4, waiting=1), FIRST + 11)
    close(history, FIRST + 2 * BUCKET_S)
    assert [(step.waiting, step.requests) for step in steps(history)] == [(7, 7), (1, 0)]


def test_what_was_before_a_router_was_heard_first_is_not_counted() -> None:
    history = LoadHistory(BEGAN)
    history.note(
        report(arrivals_total=1_000, completions_total=990, refused_total=7, in_flight=3), FIRST + 1
    )
    close(history, FIRST + BUCKET_S)
    (step,) = steps(history)
    assert (step.requests, step.completed, step.refused) == (3, 0, 0)


def test_a_bucket_in_which_nothing_was_heard_is_a_step_all_the_same() -> None:
    history = LoadHistory(BEGAN)
    history.note(report(arrivals_total=1, in_flight=1), FIRST + 1)
    for n in range(1, 5):
        close(history, FIRST + n * BUCKET_S)
    assert [step.requests for step in steps(history)] == [1, 0, 0, 0]
    assert [step.service_s for step in steps(history)] == [None] * 4
    assert history.steps("ep-never", window_s=20, step_s=10) == [
        Step(FIRST + 2 * BUCKET_S),
        Step(FIRST + 3 * BUCKET_S),
    ]


def test_a_late_close_puts_what_was_heard_into_the_bucket_before() -> None:
    history = LoadHistory(BEGAN)
    history.note(report(arrivals_total=1, in_flight=1), FIRST + 1)
    close(history, FIRST + 5)  # too early: none is over
    assert steps(history) == []
    close(history, FIRST + 3 * BUCKET_S + 5)  # the process was stopped meanwhile
    assert [step.requests for step in steps(history)] == [0, 0, 0]  # nobody was heard in the last
    history.note(report(arrivals_total=2, in_flight=1), FIRST + 3 * BUCKET_S + 6)
    close(history, FIRST + 4 * BUCKET_S)
    assert [step.requests for step in steps(history)] == [0, 0, 0, 2]


def test_steps_of_several_buckets_begin_on_their_own_grid() -> None:
    history = LoadHistory(BEGAN)
    for n in range(30):
        history.note(report(arrivals_total=n + 1, in_flight=1), FIRST + n * BUCKET_S + 1)
        close(history, FIRST + (n + 1) * BUCKET_S)
    found = steps(history, step_s=60)
    assert all(step.at % 60 == 0 and step.requests == 6 for step in found)
    assert len(found) in (4, 5)


def test_an_endpoint_of_which_nothing_is_heard_takes_no_room() -> None:
    history = LoadHistory(BEGAN)
    history.note(report(arrivals_total=1), FIRST + 1)
    close(history, FIRST + BUCKET_S)
    close(history, FIRST + KEPT * BUCKET_S)
    assert len(history) == 1
    close(history, FIRST + (KEPT + 1) * BUCKET_S)
    assert len(history) == 0


#: For each router, what comes in each bucket; None = it was restarted and begins to count anew.
traffic = st.lists(
    st.tuples(st.sampled_from(["rt-1", "rt-2"]), st.integers(0, 9) | st.none(), st.integers(0, 15)),
    max_size=60,
)


@given(traffic, st.sampled_from([10, 20, 60, 300]))
def test_every_request_is_counted_once_whatever_the_steps(
    events: list[tuple[str, int | None, int]], step_s: int
) -> None:
    history, at = LoadHistory(BEGAN), float(FIRST)
    totals, came = {"rt-1": 0, "rt-2": 0}, 0
    for router_id in totals:
        history.note(report(router_id), at)
    for router_id, n, pause_s in events:
        if n is None:
            totals[router_id] = 0
        else:
            totals[router_id] += n
            came += n
        # A restarted router that says something is heard before it counts beyond what it had.
        history.note(report(router_id, arrivals_total=totals[router_id]), at)
        for _ in range(pause_s):
            at += 1
            close(history, at)
    # Over the next bound of steps, and one bucket on.
    for _ in range(2 * 300 // BUCKET_S):
        at += BUCKET_S
        close(history, at)
    buckets, found = steps(history), steps(history, step_s=step_s)
    assert sum(step.requests for step in buckets) == came
    begin = FIRST + -FIRST % step_s  # what lies before the first whole step is not shown
    end = begin + len(found) * step_s
    assert [step.at for step in found] == list(range(begin, end, step_s))
    within = (bucket.requests for bucket in buckets if begin <= bucket.at < end)
    assert sum(step.requests for step in found) == sum(within)


@given(st.lists(st.integers(1, 3 * KEPT), max_size=8), st.integers(1, KEPT))
def test_the_ring_shows_the_last_buckets_and_never_an_older_one(
    jumps: list[int], n_window: int
) -> None:
    history, number = LoadHistory(BEGAN), FIRST // BUCKET_S
    heard: dict[int, int] = {}
    total = 0
    for jump in jumps:
        number += jump
        total += jump
        at = number * BUCKET_S
        history.note(report(arrivals_total=total, in_flight=jump), at + 1)
        heard[at] = jump
        close(history, at + BUCKET_S)
    found = steps(history, window_s=n_window * BUCKET_S)
    assert len(found) <= n_window
    for step in found:
        assert step.in_flight == heard.get(step.at, 0)
    if heard:
        assert found[-1].at == max(heard)
