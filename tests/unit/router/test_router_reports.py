"""When reports go out."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_common.sketch import ACCURACY, quantile, weight_of
from penstock_common.specs import QueueSpec
from penstock_common.states import TicketOutcome
from penstock_router.admission import CLEAR, Refusal
from penstock_router.lanes import Lane
from penstock_router.picker import pick_least_busy
from penstock_router.reports import PERIOD_S, QUIET_S, ReportSchedule, make_report
from tests.fakes.clock import ManualClock


def test_a_report_tells_how_long_requests_were_at_their_workers() -> None:
    lane = Lane.empty("ep", pick_least_busy)
    for n in range(100):
        lane.count_end("ok", 0.2 if n < 90 else 3.0)
    lane.count_end("connect_failed", 60.0)  # it never reached a worker
    report = make_report(lane, "rt-1", ManualClock())
    assert report.completions_total == weight_of(report.service_times) == 100
    for ratio, seconds in ((0.5, 0.2), (0.95, 3.0)):
        found = quantile(report.service_times, ratio)
        assert found is not None
        assert abs(found - seconds) <= ACCURACY * seconds


def test_a_report_tells_when_answers_began() -> None:
    lane = Lane.empty("ep", pick_least_busy)
    for _ in range(60):
        lane.count_end("ok", 0.2)  # its body came all at once
    for _ in range(40):
        lane.count_end("ok", 9.0, 1.1)
    lane.count_end("cancelled", 5.0, 1.1)
    lane.count_end("cancelled", 5.0)  # the client left before
    lane.count_end("error", 7.0)
    report = make_report(lane, "rt-1", ManualClock())
    assert weight_of(report.service_times) == 103
    assert weight_of(report.first_byte_times) == 101
    for times, ratio, seconds in (
        (report.first_byte_times, 0.5, 0.2),
        (report.first_byte_times, 0.99, 1.1),
        (report.service_times, 0.99, 9.0),
    ):
        found = quantile(times, ratio)
        assert found is not None
        assert abs(found - seconds) <= ACCURACY * seconds


def test_a_report_counts_what_went_wrong_at_workers_and_what_was_refused() -> None:
    lane, clock = Lane.empty("ep", pick_least_busy), ManualClock()
    for outcome in ("ok", "error", "cancelled", "connect_failed", "error"):
        lane.count_end(outcome, 0.1)
    limits = QueueSpec(max_waiting=1)
    lane.waiting.enqueue("t-1", now=0.0)
    decided = lane.waiting.decide_admission(slot_free=False, limits=limits, condition=CLEAR)
    assert isinstance(decided, Refusal)
    lane.waiting.end("t-1", TicketOutcome.EVICTED, now=5.0)
    lane.waiting.enqueue("t-2", now=5.0)
    lane.waiting.end("t-2", TicketOutcome.CANCELLED, now=6.0)
    report = make_report(lane, "rt-1", clock)
    assert (report.completions_total, report.errors_total, report.refused_total) == (4, 2, 2)


def test_the_first_change_is_reported_at_once() -> None:
    schedule = ReportSchedule()
    assert schedule.next_due() is None
    assert schedule.change("ep", urgent=False)
    assert schedule.due(now=0.0) == ("ep",)


def test_changes_are_gathered_for_a_while() -> None:
    schedule = ReportSchedule()
    schedule.change("ep", urgent=False)
    schedule.sent("ep", now=0.0, active=True)
    schedule.change("ep", urgent=False)
    assert not schedule.change("ep", urgent=False)
    assert schedule.due(now=QUIET_S - 0.01) == ()
    assert schedule.due(now=QUIET_S) == ("ep",)


def test_the_first_who_waits_does_not_wait_for_that() -> None:
    schedule = ReportSchedule()
    schedule.change("ep", urgent=False)
    schedule.sent("ep", now=0.0, active=True)
    schedule.change("ep", urgent=False)
    assert schedule.change("ep", urgent=True)
    assert schedule.due(now=0.001) == ("ep",)


def test_while_something_goes_on_it_is_reported_every_second() -> None:
    schedule = ReportSchedule()
    schedule.change("ep", urgent=False)
    schedule.sent("ep", now=0.0, active=True)
    assert schedule.due(now=PERIOD_S - 0.01) == ()
    assert schedule.due(now=PERIOD_S) == ("ep",)


def test_when_nothing_goes_on_there_is_silence() -> None:
    schedule = ReportSchedule()
    schedule.change("ep", urgent=False)
    schedule.sent("ep", now=0.0, active=False)
    assert schedule.next_due() is None


def test_after_a_reconnect_everything_is_reported() -> None:
    schedule = ReportSchedule()
    for endpoint_id in ("a", "b"):
        schedule.change(endpoint_id, urgent=False)
        schedule.sent(endpoint_id, now=5.0, active=True)
    schedule.renew()
    assert set(schedule.due(now=5.0)) == {"a", "b"}


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans(), st.booleans())))
def test_never_more_often_than_allowed_and_no_change_is_forgotten(
    steps: list[tuple[float, bool, bool]],
) -> None:
    schedule = ReportSchedule()
    now = 0.0
    sent_at = None
    pending = urgent_pending = False
    for pause, change, urgent in steps:
        now += pause
        if change:
            schedule.change("ep", urgent=urgent)
            pending, urgent_pending = True, urgent_pending or urgent
        due = bool(schedule.due(now=now))
        quiet_over = sent_at is None or now >= sent_at + QUIET_S
        if pending:
            assert due == (urgent_pending or quiet_over)
        if due:
            schedule.sent("ep", now=now, active=True)
            sent_at, pending, urgent_pending = now, False, False
