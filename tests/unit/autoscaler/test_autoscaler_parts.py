"""The parts round a decision: arrivals over two windows, learnt starts, schedules, who goes."""

import math
from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_autoscaler.arrivals import LONG_S, SHORT_S, Arrivals
from penstock_autoscaler.decide import Decision
from penstock_autoscaler.idle import pick_idle
from penstock_autoscaler.least import is_open, least_workers
from penstock_autoscaler.load import Starting
from penstock_autoscaler.starts import UNKNOWN_START_S, StartTimes
from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import ScheduleWindow, parse_endpoint
from penstock_common.states import Phase

# ---- arrivals


def feed(*batches: tuple[float, int]) -> Arrivals:
    """Arrivals of one router whose counter grew by so much at each time."""
    arrivals, total = Arrivals().count({"rt-1": 0}, 0.0), 0
    for at, n in batches:
        total += n
        arrivals = arrivals.count({"rt-1": total}, at)
    return arrivals


STEADY = tuple((float(at), 1) for at in range(1, 121))


def test_a_steady_load_is_measured_over_the_long_window() -> None:
    rate = feed(*STEADY).rate(120, LONG_S)
    assert (rate.per_s, rate.window_s, rate.burst) == (1.0, LONG_S, False)


def test_chance_alone_is_no_burst() -> None:
    more = [(120 + i * 0.3, 1) for i in range(1, 7)]
    rate = feed(*STEADY, *more).rate(122, LONG_S)  # 9 in 5 s where 5 are usual
    assert not rate.burst
    assert rate.per_s == pytest.approx(1.1, rel=0.05)


def test_far_more_than_usual_is_a_burst_and_then_the_short_window_counts() -> None:
    more = [(120 + i * 0.3, 4) for i in range(1, 6)]
    rate = feed(*STEADY, *more).rate(121.6, LONG_S)
    assert rate.burst
    assert (rate.per_s, rate.window_s) == (24 / 5, SHORT_S)


def test_a_batch_is_no_rate() -> None:
    rate = feed(*STEADY, (120.5, 50)).rate(120.6, LONG_S)
    assert not rate.burst
    assert rate.per_s == pytest.approx(1.0, rel=0.05)
    assert feed((1, 10)).rate(2, LONG_S).per_s == 0


def test_far_fewer_than_usual_counts_at_once() -> None:
    busy = tuple((at / 10, 1) for at in range(1, 601))
    rate = feed(*busy).rate(64, LONG_S)
    assert rate.per_s == pytest.approx(2.0, abs=0.1)
    assert not rate.burst


def test_silence_in_the_short_window_is_no_rate() -> None:
    assert feed((1, 1)).rate(20, LONG_S).per_s == 0


def test_the_long_window_is_no_longer_than_what_was_watched() -> None:
    rate = feed(*STEADY[:10]).rate(10, LONG_S)
    assert rate.per_s == 1.0


def test_a_short_idle_timeout_makes_the_long_window_short() -> None:
    assert feed(*STEADY).rate(120, 1).window_s == SHORT_S


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), max_size=40))
def test_no_more_is_counted_than_arrived(steps: list[tuple[float, int]]) -> None:
    now, batches = 0.0, []
    for gap_s, n in steps:
        now += gap_s
        batches.append((now, n))
    arrivals = feed(*batches)
    rate = arrivals.rate(now, LONG_S)
    assert 0 <= rate.per_s * rate.window_s <= sum(n for _, n in batches) + 1e-6
    assert len(arrivals.recent) <= LONG_S / 0.2 + 2


# ---- starts


def test_an_unknown_start_is_thought_to_take_a_while() -> None:
    assert StartTimes().whole_s == UNKNOWN_START_S
    assert StartTimes().ready_in_s(Starting(4.0)) == UNKNOWN_START_S - 4


def test_the_usual_start_follows_the_starts_seen() -> None:
    seen = StartTimes().learn({Phase.RECEIVED: 10.0})
    assert seen.whole_s == 10.0
    assert seen.learn({Phase.RECEIVED: 20.0}).whole_s == 15.0


def test_a_worker_that_has_its_image_is_expected_sooner() -> None:
    seen = StartTimes().learn({Phase.RECEIVED: 60.0, Phase.PULLED: 20.0, Phase.STARTED: 18.0})
    assert seen.ready_in_s(Starting(5.0)) == 55.0
    assert seen.ready_in_s(Starting(5.0, Phase.PULLED, 2.0)) == 18.0
    assert seen.ready_in_s(Starting(50.0, Phase.CREATED, 1.0)) == 10.0  # no such phase seen


def test_who_is_overdue_counts_the_less_the_later() -> None:
    seen = StartTimes().learn({Phase.RECEIVED: 10.0})
    assert seen.ready_in_s(Starting(11.0)) == 1.0
    assert seen.ready_in_s(Starting(40.0)) == 30.0


# ---- schedules


def window(**fields: object) -> ScheduleWindow:
    return ScheduleWindow.model_validate({"start": "08:00", "end": "18:00", "min": 2, **fields})


def at(day: int, clock: str) -> datetime:
    """2030-07-01 is a Monday."""
    return datetime.fromisoformat(f"2030-07-{day:02}T{clock}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "when", "open_"),
    [
        ({}, at(1, "07:59:59"), False),
        ({}, at(1, "08:00"), True),
        ({}, at(1, "17:59:59"), True),
        ({}, at(1, "18:00"), False),
        ({"days": ["tue"]}, at(1, "12:00"), False),
        ({"days": ["tue"]}, at(2, "12:00"), True),
        # 08:00 in Berlin's summer is 06:00 UTC
        ({"timezone": "Europe/Berlin"}, at(1, "05:59"), False),
        ({"timezone": "Europe/Berlin"}, at(1, "06:00"), True),
        # past midnight it belongs to the day of its start
        ({"start": "22:00", "end": "06:00", "days": ["mon"]}, at(1, "05:00"), False),
        ({"start": "22:00", "end": "06:00", "days": ["mon"]}, at(1, "23:00"), True),
        ({"start": "22:00", "end": "06:00", "days": ["mon"]}, at(2, "05:00"), True),
        ({"start": "22:00", "end": "06:00", "days": ["mon"]}, at(2, "23:00"), False),
        ({"start": "00:00", "end": "24:00"}, at(1, "23:59:59"), True),
    ],
)
def test_a_window_follows_the_clock_on_the_wall(
    fields: dict[str, object], when: datetime, open_: bool
) -> None:
    assert is_open(window(**fields), when) is open_


def document(workers: dict[str, object], scaling: dict[str, object]) -> dict[str, object]:
    return {
        "name": "a",
        "app_name": "a",
        "image": {"image": "a"},
        "workers": workers,
        "scaling": scaling,
    }


def test_an_open_window_raises_min_and_never_lowers_it() -> None:
    schedule = [{"start": "08:00", "end": "18:00", "min": n} for n in (3, 2)]
    low = parse_endpoint(document({"min": 1, "max": 9}, {"schedule": schedule}))
    high = parse_endpoint(document({"min": 5, "max": 9}, {"schedule": schedule}))
    noon, night = at(1, "12:00"), at(1, "23:00")
    assert [least_workers(low, when) for when in (noon, night)] == [3, 1]
    assert [least_workers(high, when) for when in (noon, night)] == [5, 5]


@pytest.mark.parametrize(
    ("scaling", "pointer", "text"),
    [
        ({"buffer": -1}, "/scaling/buffer", "share of the need like '25%'"),
        ({"buffer": "many"}, "/scaling/buffer", "share of the need like '25%'"),
        ({"buffer": True}, "/scaling/buffer", "share of the need like '25%'"),
        (
            {"schedule": [{"start": "8:00", "end": "9:00", "min": 1}]},
            "/scaling/schedule/0/start",
            "pattern",
        ),
        (
            {"schedule": [{"start": "08:00", "end": "08:00", "min": 1}]},
            "/scaling/schedule/0",
            "use 00:00 to 24:00",
        ),
        (
            {"schedule": [{"start": "08:00", "end": "09:00", "min": 1, "timezone": "Berlin"}]},
            "/scaling/schedule/0/timezone",
            "Europe/Berlin",
        ),
        (
            {"schedule": [{"start": "08:00", "end": "09:00", "min": 9}]},
            "",
            "workers.max is 3",
        ),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(
    scaling: dict[str, object], pointer: str, text: str
) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_endpoint(document({}, scaling))
    assert any(p.pointer == pointer and text in p.message for p in caught.value.problems)


@pytest.mark.parametrize(
    ("buffer", "needed", "above"), [(0, 9, 0), (2, 9, 2), ("3", 9, 3), ("25%", 9, 3), ("25%", 0, 0)]
)
def test_a_buffer_is_a_number_or_a_share(buffer: object, needed: int, above: int) -> None:
    spec = parse_endpoint(document({}, {"buffer": buffer}))
    assert spec.scaling.buffer_above(needed) == above


# ---- who goes


def decision(desired: int, kept: int | None) -> Decision:
    return Decision(desired, kept, "", 0, Arrivals().rate(0, LONG_S), 10.0)


def test_who_is_idle_for_the_timeout_goes_down_to_what_is_wanted() -> None:
    idle = [("a", 10.0), ("b", 30.0), ("c", 20.0)]
    assert pick_idle(idle, 5, decision(3, None), 15) == ["b", "c"]
    assert pick_idle(idle, 5, decision(4, None), 15) == ["b"]
    assert pick_idle(idle, 5, decision(5, None), 15) == []


def test_who_was_not_needed_for_the_timeout_goes_although_it_is_asked_now_and_then() -> None:
    idle = [("a", 1.0), ("b", 2.0)]
    assert pick_idle(idle, 5, decision(2, 4), 15) == ["b"]
    assert pick_idle(idle, 5, decision(2, None), 15) == []


@given(
    st.lists(st.floats(0, 100), max_size=8),
    st.integers(0, 8),
    st.integers(0, 10),
    st.none() | st.integers(0, 10),
)
def test_never_below_what_is_wanted_and_the_longest_idle_first(
    seconds: list[float], busy: int, desired: int, kept: int | None
) -> None:
    idle = [(f"w{i}", s) for i, s in enumerate(seconds)]
    n_workers = len(idle) + busy
    going = pick_idle(idle, n_workers, decision(desired, kept), 20)
    assert not going or n_workers - len(going) >= desired
    stays = [s for name, s in idle if name not in going]
    assert min((dict(idle)[name] for name in going), default=math.inf) >= max(stays, default=0)
