"""The live load from the routers' reports."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.loads import FRESH_S, EndpointLoad, Loads
from penstock_common.messages import QueueReport, WorkerLoad
from tests.fakes.clock import EPOCH


def report(router: str, endpoint: str = "ep-1", at: float = 0.0, **fields: Any) -> QueueReport:
    return QueueReport(
        router_id=router,
        endpoint_id=endpoint,
        sent_at=EPOCH + timedelta(seconds=at),
        **{
            "waiting": 1,
            "oldest_wait_s": 0.5,
            "in_flight": 2,
            "arrivals_total": 0,
            "completions_total": 0,
            **fields,
        },
    )


def worker(in_flight: int) -> WorkerLoad:
    return WorkerLoad(
        worker_id="wk-1", in_flight=in_flight, accepting=True, idle_s=0, assignment_revision=1
    )


def test_routers_add_up_and_the_last_report_of_each_counts() -> None:
    loads = Loads()
    loads.note(report("rt-1", waiting=9), now=0)
    loads.note(report("rt-1", oldest_wait_s=0.25), now=1)
    loads.note(report("rt-2"), now=1)
    assert loads.of_endpoint("ep-1", now=2) == EndpointLoad(2, 4, 0.5)
    assert loads.of_endpoint("ep-2", now=2) == EndpointLoad(0, 0, 0.0)


def test_a_silent_router_stops_counting() -> None:
    loads = Loads()
    loads.note(report("rt-1"), now=0)
    assert loads.of_endpoint("ep-1", now=FRESH_S).waiting == 1
    assert loads.of_endpoint("ep-1", now=FRESH_S + 0.01).waiting == 0


def test_of_two_reports_about_a_worker_the_later_one_stays() -> None:
    loads = Loads()
    loads.note(report("rt-new", at=2, workers=[worker(1)]), now=0)
    loads.note(report("rt-old", at=1, workers=[worker(5)]), now=0)
    assert loads.of_workers("ep-1", now=0) == {"wk-1": ("rt-new", worker(1))}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 30)), max_size=30
    ),
    st.floats(30, 60),
)
def test_forgetting_changes_no_answer_and_frees_what_is_stale(
    notes: list[tuple[str, str, float]], now: float
) -> None:
    loads = Loads()
    for router, endpoint, at in sorted(notes, key=lambda note: note[2]):
        loads.note(report(router, endpoint), now=at)
    before = [loads.of_endpoint(endpoint, now) for endpoint in "xyz"]
    loads.forget_stale(now)
    assert [loads.of_endpoint(endpoint, now) for endpoint in "xyz"] == before
    assert len(loads) == sum(load.waiting for load in before)
