"""How many workers: the fluid prediction, the plain formula, and what holds of both."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_autoscaler.decide import ScaleMemory, decide_workers
from penstock_autoscaler.load import Load, Starting
from penstock_autoscaler.starts import StartTimes
from penstock_common.specs import EndpointSpec
from penstock_common.states import Phase
from tests.fakes.scheduler_records import make_record


def spec(
    value: float = 4, type_: str = "queue_delay", slots: int = 1, low: int = 0, high: int = 100
) -> EndpointSpec:
    return make_record(
        workers={"min": low, "max": high, "max_concurrency": slots},
        scaling={"type": type_, "value": value},
    ).spec


def decide(
    spec: EndpointSpec, load: Load, start_s: float | None = None, now: float = 0.0
) -> tuple[int, str]:
    decision, _ = decide_workers(spec, load, remember(start_s), now)
    return decision.desired, decision.why


def remember(start_s: float | None) -> ScaleMemory:
    """The memory of an endpoint whose starts took so long."""
    if start_s is None:
        return ScaleMemory()
    return ScaleMemory(starts=StartTimes().learn({Phase.RECEIVED: start_s}))


# ---- from zero


def test_the_first_waiting_request_starts_a_worker_at_once() -> None:
    load = Load(waiting=3, oldest_wait_s=0.2)
    assert decide(spec(), load) == (1, "0 → 1: 3 waiting, oldest 0.2 s, none running")


def test_nothing_waits_nothing_starts() -> None:
    assert decide(spec(), Load()) == (0, "0 → 0: no requests, none running")


def test_min_is_kept_without_requests() -> None:
    assert decide(spec(low=2), Load()) == (
        2,
        "0 → 2: no requests, none running; workers.min is 2",
    )


def test_max_is_said_when_it_binds() -> None:
    load = Load(waiting=100, service_time_s=10)
    desired, why = decide(spec(high=3), load)
    assert desired == 3
    assert why.endswith("workers.max is 3")


# ---- queue_delay without measurements


def test_unmeasured_each_delay_that_passes_adds_one() -> None:
    memory, desired = ScaleMemory(), []
    n = 0
    for wait_s in [0.0, 3.9, 4.0, 7.9, 8.1, 8.2, 12.0]:
        load = Load(waiting=9, oldest_wait_s=wait_s, starting=(Starting(1.0),) * n)
        decision, memory = decide_workers(spec(value=4), load, memory, wait_s)
        n = decision.desired
        desired.append(n)
    assert desired == [1, 1, 2, 2, 3, 3, 4]


def test_unmeasured_no_more_workers_than_all_waiting_can_use_at_once() -> None:
    memory = ScaleMemory()
    load = Load(waiting=9, oldest_wait_s=100, running=1, in_flight=8)
    decision, _ = decide_workers(spec(value=4, slots=8), load, memory, 0)
    assert decision.desired == 3  # 17 requests, 8 slots each


def test_unmeasured_a_worker_that_dies_is_replaced() -> None:
    load = Load(waiting=9, oldest_wait_s=4.5, running=1, in_flight=1)
    decision, memory = decide_workers(spec(value=4), load, ScaleMemory(), 0)
    assert decision.desired == 2
    died = replace(load, oldest_wait_s=4.6, running=0)
    decision, _ = decide_workers(spec(value=4), died, memory, 0.1)
    assert decision.desired == 2


# ---- queue_delay, predicted


def test_a_start_is_not_made_when_the_others_will_have_drained_the_queue() -> None:
    load = Load(waiting=20, oldest_wait_s=6, in_flight=1, running=1, service_time_s=1)
    assert decide(spec(value=4), load, start_s=30)[0] == 1  # drained in 20 s
    assert decide(spec(value=4), load, start_s=5)[0] > 1


def test_a_start_that_is_needed_is_made_before_anybody_has_waited_long() -> None:
    load = Load(waiting=100, oldest_wait_s=0.1, in_flight=1, running=1, service_time_s=1)
    desired, why = decide(spec(value=4), load, start_s=30)
    # 30 leave by then; n workers take n at once and n a second: n + 4 n >= 70.
    assert 13 <= desired <= 16
    assert why == (
        f"1 → {desired}: 100 waiting, oldest 0.1 s, 1 in flight, 1 running; "
        "they would wait 100.0 s, 4 s is wanted"
    )


def test_workers_that_start_count_from_when_they_will_be_ready() -> None:
    load = Load(waiting=10, in_flight=1, running=1, service_time_s=2, starting=(Starting(9.0),) * 4)
    assert decide(spec(value=4), load, start_s=10)[0] == 5
    assert decide(spec(value=4), replace(load, starting=()), start_s=10)[0] > 1


def test_a_start_that_is_long_overdue_is_no_longer_relied_on() -> None:
    load = Load(
        waiting=40, in_flight=1, running=1, service_time_s=2, starting=(Starting(600.0),) * 4
    )
    assert decide(spec(value=4), load, start_s=10)[0] > 5


def test_requests_for_which_a_slot_is_free_do_not_wait() -> None:
    load = Load(waiting=8, running=1, service_time_s=60, free_slots=8)
    assert decide(spec(slots=8), load, start_s=1)[0] == 1


def test_long_requests_get_a_worker_each_and_no_more() -> None:
    load = Load(waiting=3, oldest_wait_s=0.1, service_time_s=600)
    assert decide(spec(value=4), load, start_s=5)[0] == 3


def test_a_burst_that_has_passed_is_no_rate() -> None:
    """Ten that came together and all wait count as ten that wait, not as two a second for ever."""
    _, memory = decide_workers(spec(), Load(arrivals={"rt-1": 0}), remember(30), 0)
    load = Load(waiting=10, arrivals={"rt-1": 10}, service_time_s=1)
    decision, _ = decide_workers(spec(value=4), load, memory, 0.1)
    assert decision.desired == 2  # at 30 s: 2 at once, then 2 a second for 4 s


def test_the_oldest_waits_longer_than_a_start_takes_so_the_prediction_was_wrong() -> None:
    load = Load(
        waiting=2,
        oldest_wait_s=20,
        in_flight=1,
        running=1,
        service_time_s=0.1,  # it hangs
    )
    desired, why = decide(spec(value=4), load, start_s=10)
    assert desired == 2
    assert "longer than a start takes" in why
    assert decide(spec(value=4), replace(load, starting=(Starting(1.0),)), start_s=10)[0] == 2


def test_a_rate_that_wavers_round_the_capacity_starts_nothing() -> None:
    memory = remember(10)
    for tick in range(200):
        arrived = tick + (0, 1, 1, 2, 1)[tick % 5]  # two a second, and up to 2.4
        load = Load(in_flight=2, running=2, service_time_s=1, arrivals={"rt-1": arrived})
        decision, memory = decide_workers(spec(value=4), load, memory, tick * 0.5)
        assert decision.desired == 2


def test_what_serves_the_rate_with_headroom_is_kept() -> None:
    load = Load(arrivals={"rt-1": 240}, in_flight=1, running=8, service_time_s=1)
    decision, _ = decide_workers(spec(), load, watched(60, per_s=4), 60)
    assert decision.desired == 5  # 4 a second for 1 s each, at most 80 % busy


def test_a_counter_that_fell_was_started_anew() -> None:
    _, memory = decide_workers(spec(), Load(arrivals={"rt-1": 1000}), ScaleMemory(), 0)
    load = Load(arrivals={"rt-1": 5}, running=8, service_time_s=1)
    _, memory = decide_workers(spec(), load, memory, 1)
    assert memory.arrivals.recent == ((1, 5),)


# ---- request_count


@pytest.mark.parametrize(
    ("waiting", "in_flight", "value", "desired"),
    [(0, 0, 2, 0), (1, 0, 2, 1), (2, 0, 2, 1), (2, 1, 2, 2), (7, 4, 2.5, 5), (0, 1, 10, 1)],
)
def test_request_count(waiting: int, in_flight: int, value: float, desired: int) -> None:
    load = Load(waiting=waiting, in_flight=in_flight, running=1)
    assert decide(spec(value, "request_count"), load)[0] == desired


# ---- what always holds

loads = st.builds(
    Load,
    waiting=st.integers(0, 500),
    oldest_wait_s=st.floats(0, 1e4),
    in_flight=st.integers(0, 500),
    service_time_s=st.none() | st.floats(0, 1e4),
    running=st.integers(0, 50),
    unready=st.integers(0, 3),
    free_slots=st.integers(0, 20),
    starting=st.lists(st.floats(0, 1e4).map(Starting), max_size=5).map(tuple),
)
specs = st.builds(
    lambda value, type_, slots, low, more: spec(value, type_, slots, low, max(1, low + more)),
    st.floats(0.01, 1000),
    st.sampled_from(["queue_delay", "request_count"]),
    st.integers(1, 64),
    st.integers(0, 5),
    st.integers(0, 100),
)
starts = st.none() | st.floats(0, 1000)


@given(specs, loads, starts)
def test_limits_hold(spec: EndpointSpec, load: Load, start_s: float | None) -> None:
    desired, _ = decide(spec, load, start_s)
    assert spec.workers.min <= desired <= spec.workers.max
    if load.waiting and not load.workers:
        assert desired >= 1


@given(specs, loads, starts)
def test_what_was_started_is_not_started_again(
    spec: EndpointSpec, load: Load, start_s: float | None
) -> None:
    decision, memory = decide_workers(spec, load, remember(start_s), 0)
    n_new = decision.desired - load.workers
    if n_new <= 0:
        return
    started = replace(load, starting=load.starting + (Starting(0.0),) * n_new)
    again, _ = decide_workers(spec, started, memory, 0)
    assert again.desired == decision.desired or spec.scaling.type == "request_count"


@given(specs, loads, starts, st.integers(1, 50))
def test_more_waiting_never_wants_fewer(
    spec: EndpointSpec, load: Load, start_s: float | None, more: int
) -> None:
    if not load.waiting:
        return  # the first that waits may find a free slot: what is kept is another question
    fewer, _ = decide(spec, load, start_s)
    greater, _ = decide(spec, replace(load, waiting=load.waiting + more), start_s)
    assert greater >= fewer


# ---- buffer, bursts, what is kept


def watched(now: float, *, per_s: int, start_s: float = 5.0) -> ScaleMemory:
    """The memory after a steady load until `now`."""
    arrivals = ScaleMemory().arrivals
    for second in range(int(now) + 1):
        arrivals = arrivals.count({"rt-1": second * per_s}, float(second))
    return replace(remember(start_s), arrivals=arrivals)


def with_buffer(buffer: object) -> EndpointSpec:
    return make_record(
        workers={"max": 100}, scaling={"type": "queue_delay", "value": 4, "buffer": buffer}
    ).spec


@pytest.mark.parametrize(("buffer", "desired"), [(0, 5), (2, 7), ("50%", 8)])
def test_a_buffer_stands_above_what_is_needed(buffer: object, desired: int) -> None:
    load = Load(running=5, in_flight=4, service_time_s=1, arrivals={"rt-1": 240})
    decision, _ = decide_workers(with_buffer(buffer), load, watched(60, per_s=4), 60)
    assert decision.desired == desired  # 4 a second for 1 s each at 80 % are 5


def test_a_buffer_of_nothing_is_nothing() -> None:
    load = Load(running=1, service_time_s=1)
    assert decide(with_buffer(3), load)[0] == 0


def test_nobody_goes_during_a_burst() -> None:
    calm = Load(running=8, in_flight=1, service_time_s=0.1, arrivals={"rt-1": 60})
    memory = watched(60, per_s=1)
    decision, _ = decide_workers(spec(), calm, memory, 60)
    assert decision.desired == 1
    _, memory = decide_workers(spec(), replace(calm, arrivals={"rt-1": 70}), memory, 60.5)
    burst = replace(calm, arrivals={"rt-1": 80})
    decision, _ = decide_workers(spec(), burst, memory, 61)
    assert (decision.desired, decision.rate.burst) == (8, True)
    assert "a burst arrives" in decision.why


def test_the_schedule_is_named_when_it_binds() -> None:
    decision, _ = decide_workers(spec(high=9), Load(), ScaleMemory(), 0, least=4)
    assert decision.desired == 4
    assert decision.why.endswith("the schedule asks for 4")


def test_what_is_kept_is_the_most_that_was_needed_within_the_timeout() -> None:
    policy = spec(1, "request_count")  # idle timeout 60 s
    memory, kept = ScaleMemory(), []
    for now, busy in [(0, 2), (10, 6), (40, 1), (65, 1), (71, 3), (120, 0), (132, 0)]:
        load = Load(running=6, in_flight=busy)
        decision, memory = decide_workers(policy, load, memory, now)
        kept.append(decision.kept)
    assert kept == [None, None, None, 6, 3, 3, 0]


def test_without_a_worker_only_a_request_that_waits_starts_one() -> None:
    memory = watched(60, per_s=2)
    load = Load(service_time_s=1, arrivals={"rt-1": 120})
    assert decide_workers(spec(), load, memory, 60)[0].desired == 0
    assert decide_workers(spec(), replace(load, waiting=1), memory, 60)[0].desired >= 1


def test_a_service_time_that_jumps_counts_little_by_little() -> None:
    load = Load(running=5, in_flight=4, service_time_s=1, arrivals={"rt-1": 240})
    _, memory = decide_workers(spec(), load, watched(60, per_s=4), 60)
    longer = replace(load, service_time_s=2)
    at_once, memory = decide_workers(spec(), longer, memory, 60.1)
    assert at_once.desired == 5
    decision = at_once
    for n in range(100):
        counted = replace(longer, arrivals={"rt-1": 240 + 2 * n}, running=20)
        decision, memory = decide_workers(spec(), counted, memory, 60.5 + n * 0.5)
    assert decision.desired == 10  # 4 a second for 2 s each at 80 %
