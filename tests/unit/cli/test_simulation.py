"""The simulator: what is conserved, what the autoscaler promises, and the peers' formulas."""

from array import array
from itertools import pairwise
from xml.etree import ElementTree

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from penstock_cli.simulation.engine import Figures, Run, simulate
from penstock_cli.simulation.ours import Penstock
from penstock_cli.simulation.peers import (
    SCALERS,
    Keda,
    KnativeKpa,
    RayServe,
    RunpodQueueDelay,
    RunpodRequestCount,
)
from penstock_cli.simulation.plot import charts, draw
from penstock_cli.simulation.report import percentile, summarize
from penstock_cli.simulation.traces import KINDS, Kind, Trace, TraceError, generate, read_csv
from penstock_cli.simulation.view import SimWorker, View
from penstock_common.specs import EndpointSpec, parse_endpoint


def spec(
    *,
    low: int = 0,
    high: int = 50,
    slots: int = 1,
    idle_s: float = 60,
    queue: dict[str, object] | None = None,
    **scaling: object,
) -> EndpointSpec:
    return parse_endpoint(
        {
            "name": "a",
            "app_name": "a",
            "image": {"image": "a"},
            "workers": {
                "min": low,
                "max": high,
                "max_concurrency": slots,
                "idle_timeout_s": idle_s,
            },
            "scaling": scaling,
            "queue": queue or {"max_waiting": 100_000, "max_wait_s": 10_000},
        }
    )


def trace(*requests: tuple[float, float]) -> Trace:
    return Trace("test", array("d", [a for a, _ in requests]), array("d", [s for _, s in requests]))


def every(gap_s: float, duration_s: float, service_s: float) -> Trace:
    return trace(*((i * gap_s, service_s) for i in range(int(duration_s / gap_s))))


def run(trace: Trace, spec: EndpointSpec, cold_start_s: float = 5.0) -> Run:
    return simulate(trace, spec, Penstock(), Figures(cold_start_s=cold_start_s))


def after(run: Run, at_s: float) -> list[float]:
    """Waits of those that came after this instant."""
    return [w for w, at in zip(run.waits_s, run.served_s, strict=True) if at >= at_s]


# ---- traces


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_trace_is_its_seed_and_has_its_mean(kind: Kind) -> None:
    made = generate(kind, duration_s=2000, per_s=5, service_s=2, seed=7)
    assert made == generate(kind, duration_s=2000, per_s=5, service_s=2, seed=7)
    assert made != generate(kind, duration_s=2000, per_s=5, service_s=2, seed=8)
    assert len(made) == pytest.approx(10_000, rel=0.1)
    assert sum(made.services_s) / len(made) == pytest.approx(2, rel=0.1)
    assert all(a <= b for a, b in pairwise(made.arrivals_s))


def test_csv_with_and_without_a_heading() -> None:
    read = read_csv(["arrival_s,service_s", "2,0.5", "", "1,0.25"], "a.csv")
    assert (list(read.arrivals_s), list(read.services_s)) == ([1, 2], [0.25, 0.5])
    assert len(read_csv(["1,1"], "a.csv")) == 1


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["1,1", "2"], "line 2 of a.csv"),
        (["1,1", "2,soon"], "like 12.5,0.8"),
        (["1,-1"], "negative"),
        (["1,inf"], "endless"),
        (["arrival,service"], "no request"),
    ],
)
def test_a_wrong_line_is_named(lines: list[str], text: str) -> None:
    with pytest.raises(TraceError, match=text):
        read_csv(lines, "a.csv")


# ---- the engine


def test_three_at_once_and_one_worker() -> None:
    done = run(trace((0, 1), (0, 1), (0, 1)), spec(high=1))
    assert list(done.waits_s) == [5, 6, 7]
    # started at 0, idle from 8 on, gone at the first turn after the timeout
    assert done.worker_seconds == pytest.approx(8 + 60, abs=0.5)
    assert done.starts == 1


def test_slots_serve_side_by_side() -> None:
    assert list(run(trace((0, 1), (0, 1), (0, 1)), spec(high=1, slots=2)).waits_s) == [5, 5, 6]


def test_a_full_queue_refuses_and_a_long_wait_ends() -> None:
    full = run(trace(*[(0, 1)] * 5), spec(high=1, queue={"max_waiting": 3, "max_wait_s": 5.5}))
    assert (full.refused, full.timed_out, list(full.waits_s)) == (2, 2, [5])


requests = st.lists(st.tuples(st.floats(0, 200), st.floats(0, 20)), min_size=1, max_size=60).map(
    sorted
)


@settings(deadline=None, max_examples=50)
@given(
    requests,
    st.sampled_from(sorted(SCALERS)),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(0, 2),
    st.sampled_from([0.0, 3.0, 30.0]),
)
def test_nothing_is_lost_and_all_is_paid(
    arrivals: list[tuple[float, float]],
    name: str,
    slots: int,
    high: int,
    low: int,
    cold_start_s: float,
) -> None:
    policy = spec(low=min(low, high), high=high, slots=slots, idle_s=10)
    done = simulate(trace(*arrivals), policy, SCALERS[name](), Figures(cold_start_s=cold_start_s))
    assert len(done.waits_s) + done.refused + done.timed_out == len(arrivals)
    assert all(wait >= 0 for wait in done.waits_s)
    assert all(a <= b for a, b in pairwise(done.served_s))  # first come, first served
    paid = sum(n * (b - a) for (a, n), (b, _) in pairwise([*done.workers, (done.ended_at, 0)]))
    assert done.worker_seconds == pytest.approx(paid, abs=1e-6)


# ---- what the autoscaler promises


@settings(deadline=None, max_examples=50)
@given(requests, st.integers(0, 3), st.integers(1, 6), st.sampled_from([0, 2, "50%"]))
def test_between_min_and_max_at_every_step(
    arrivals: list[tuple[float, float]], low: int, high: int, buffer: object
) -> None:
    low = min(low, high)
    done = run(trace(*arrivals), spec(low=low, high=high, idle_s=5, buffer=buffer))
    counts = [n for _, n in done.workers[1:]] or [0]
    assert low <= min(counts[:-1], default=low)  # the last step ends the run
    assert max(counts) <= high


@pytest.mark.parametrize("per_s", [0.3, 1.0, 3.7, 11.0])
@pytest.mark.parametrize("slots", [1, 4])
def test_a_constant_load_makes_nobody_come_and_go(per_s: float, slots: int) -> None:
    done = run(every(1 / per_s, 900, 1.0), spec(slots=slots, value=2))
    late = [(at, n) for at, n in done.workers if 200 < at < 899]
    assert late == []
    assert max(after(done, 200)) <= 2


def test_a_batch_waits_no_longer_than_a_start_and_the_delay_that_is_wanted() -> None:
    arrivals = [*((float(i), 1.0) for i in range(60)), *[(60.2, 1.0)] * 100]
    done = run(trace(*arrivals), spec(value=3))
    assert max(after(done, 60.1)) <= 5 + 3 + 1  # one service time is what the fluid cannot see
    assert max(n for _, n in done.workers) < 50


def test_a_burst_is_met_as_fast_as_workers_start() -> None:
    made = generate("burst", duration_s=1200, per_s=5, service_s=1, seed=3)
    done = run(made, spec(value=2, high=200), cold_start_s=10)
    assert percentile(sorted(done.waits_s), 0.99) <= 10 + 2
    assert max(after(done, 160)) <= 10 + 2 + 1


# ---- peers


def view(*, waiting: int = 0, running: int = 0, in_flight: int = 0, slots: int = 1) -> View:
    workers = [
        SimWorker(n, 0, 0, ready=True, in_flight=min(slots, max(0, in_flight - n * slots)))
        for n in range(running)
    ]
    return View(
        spec(slots=slots, value=4),
        waiting=waiting,
        in_flight=in_flight,
        running=running,
        workers=workers,
    )


def test_runpod_request_count() -> None:
    seen = view(waiting=7, in_flight=4, running=1, slots=4)
    assert RunpodRequestCount().decide(seen).start == 2  # ceil(11 / 4) - 1


def test_runpod_queue_delay_adds_one_each_time_the_delay_passes() -> None:
    scaler, seen, started = RunpodQueueDelay(), view(waiting=9), []
    for wait_s in (0.0, 3.9, 4.0, 7.9, 8.1):
        seen.oldest_wait_s = wait_s
        orders = scaler.decide(seen)
        seen.workers += [SimWorker(n, 0, 9) for n in range(orders.start)]
        started.append(orders.start)
    assert started == [1, 0, 1, 0, 1]


def test_knative_panics_at_twice_and_does_not_shrink_meanwhile() -> None:
    scaler, seen = KnativeKpa(), view(running=2, in_flight=2)
    for now in range(0, 62, 2):
        seen.now, seen.load_integral = float(now), now * 1.3
        orders = scaler.decide(seen)
        assert not now or orders.start == 0  # 1.3 at 70 % of one slot each are two
    seen.now, seen.load_integral = 62.0, 60 * 1.3 + 2 * 20
    # 6 s: (4 * 1.3 + 2 * 20) / 6 = 7.5 at 0.7 each are 11
    assert scaler.decide(seen).start == 9
    seen.now, seen.load_integral = 64.0, seen.load_integral
    assert scaler.decide(seen).stop == ()


def test_ray_serve_waits_before_it_adds() -> None:
    scaler, seen, started = RayServe(), view(running=1, in_flight=1, waiting=6), []
    for now in range(45):
        seen.now, seen.load_integral = float(now), now * 7.0
        started.append(scaler.decide(seen).start)
    assert started.index(9) == 30  # 7 at 0.7 each are ten, after 30 s
    assert sum(started[:30]) == 0


def test_keda_at_most_doubles_and_takes_the_highest_of_five_minutes() -> None:
    scaler, seen = Keda(), view(running=5, in_flight=5, waiting=40)
    assert scaler.decide(seen).start == 5
    seen.waiting, seen.in_flight, seen.now = 0, 2, 200.0
    assert scaler.decide(seen).stop == ()
    seen.now = 301.0
    assert len(scaler.decide(seen).stop) == 2  # 2 at 0.7 each are three


@pytest.mark.parametrize("name", sorted(SCALERS))
def test_each_comes_from_zero_and_says_where_it_is_published(name: str) -> None:
    scaler = SCALERS[name]()
    assert scaler.source
    done = simulate(trace((100.0, 1.0)), spec(), scaler, Figures(cold_start_s=5))
    assert list(done.waits_s) == [5.0]


# ---- what is told


def test_a_summary_counts() -> None:
    policy = parse_endpoint(
        {**spec(high=1).model_dump(mode="json"), "gpu": {"count": 2}, "scaling": {"value": 5.5}}
    )
    figures = Figures(cold_start_s=5, gpu_price_per_hour=3.6)
    done = simulate(trace((0, 1), (0, 1), (0, 1)), policy, Penstock(), figures)
    told = summarize(done, policy, figures)
    assert (told.wait_p50_s, told.wait_p99_s, told.lost) == (6, 7, 0)
    assert told.late_ratio == pytest.approx(2 / 3)
    assert told.gpu_seconds == 2 * done.worker_seconds
    assert told.cost == pytest.approx(told.gpu_seconds / 1000)


def test_the_drawing_is_whole_and_stays_within_its_frame() -> None:
    made = generate("on-off", duration_s=300, per_s=2, service_s=1)
    runs = [simulate(made, spec(), SCALERS[n](), Figures()) for n in ("penstock", "keda")]
    shown = charts(runs)
    assert sum(value for _, value in shown[0].lines[0][1]) > 0
    root = ElementTree.fromstring(draw(shown, max(r.ended_at for r in runs)))
    lines = root.findall(".//{*}polyline")
    assert len(lines) == 5
    for line in lines:
        points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
        assert all(0 <= x <= 825 and 0 <= y <= 170 for x, y in points)
