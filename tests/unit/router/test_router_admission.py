"""Admission: who gets a slot, waits, or is turned away; every ticket ends once."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.messages import EndpointRecord, EndpointStatus
from penstock_common.specs import EndpointSpec, ImageSpec, QueueSpec
from penstock_common.states import EndpointReason, EndpointState, TicketOutcome
from penstock_router.admission import (
    CLEAR,
    STOPPING,
    Admission,
    Condition,
    Refusal,
    WaitingList,
    judge_endpoint,
)
from tests.fakes.clock import EPOCH

LIMITS = QueueSpec(max_waiting=2, max_wait_s=10)
FAILING = Condition(failing=Refusal(503, "crash_backoff", "exit code 1"))


def record(**changes: object) -> EndpointRecord:
    spec = EndpointSpec(name="echo", app_name="echo", image=ImageSpec(image="echo"))
    base = EndpointRecord(
        endpoint_id="ep-1", spec=spec, revision=2, created_at=EPOCH, updated_at=EPOCH
    )
    return base.model_copy(update=changes)


def status(**changes: object) -> EndpointStatus:
    base = EndpointStatus(
        endpoint_id="ep-1",
        state=EndpointState.SERVING,
        revision=2,
        fencing_token=1,
        updated_at=EPOCH,
    )
    return base.model_copy(update=changes)


def decide(
    waiting: WaitingList, *, slot_free: bool = False, condition: Condition = CLEAR
) -> Admission | Refusal:
    return waiting.decide_admission(slot_free=slot_free, limits=LIMITS, condition=condition)


def test_a_free_slot_is_given_at_once() -> None:
    assert decide(WaitingList(), slot_free=True) is Admission.SLOT


def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    waiting = WaitingList()
    waiting.enqueue("t1", now=0.0)
    assert decide(waiting, slot_free=True) is Admission.WAIT


def test_a_full_queue_is_a_429_that_says_how_many_wait() -> None:
    waiting = WaitingList()
    waiting.enqueue("t1", now=0.0)
    waiting.enqueue("t2", now=0.0)
    refusal = decide(waiting)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.reason, refusal.queue_length) == (429, "queue_full", 2)
    assert refusal.retry_after_s
    assert waiting.ended(TicketOutcome.REJECTED) == 1


def test_a_client_that_leaves_frees_its_place() -> None:
    waiting = WaitingList()
    waiting.enqueue("t1", now=0.0)
    waiting.enqueue("t2", now=0.0)
    assert waiting.end("t1", TicketOutcome.CANCELLED, now=4.0) == 4.0
    assert decide(waiting) is Admission.WAIT
    assert waiting.head == "t2"


def test_a_failing_endpoint_refuses_only_those_who_would_wait() -> None:
    refusal = decide(WaitingList(), condition=FAILING)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "crash_backoff"
    assert decide(WaitingList(), slot_free=True, condition=FAILING) is Admission.SLOT


def test_a_closed_endpoint_refuses_although_a_slot_is_free() -> None:
    refusal = decide(WaitingList(), slot_free=True, condition=STOPPING)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "router_stopping"


def test_who_waited_too_long_reads_why() -> None:
    plain = WaitingList().refuse_waited("t", LIMITS, CLEAR)
    assert (plain.status, plain.reason) == (503, "queue_timeout")
    hinted = WaitingList().refuse_waited(
        "t", LIMITS, Condition(hint="3 nodes lack free GPUs.", hint_reason="no_capacity")
    )
    assert (hinted.status, hinted.reason) == (503, "no_capacity")
    assert "10 s" in hinted.detail
    assert "3 nodes lack free GPUs." in hinted.detail


def test_who_waited_too_long_for_a_worker_that_starts_reads_what_keeps_it() -> None:
    told = status(reason=EndpointReason.STARTING, message="GET /health on port 8000 answered 404")
    condition = judge_endpoint(record(), told, running=False, utc_now=EPOCH)

    refusal = WaitingList().refuse_waited("t", LIMITS, condition)

    assert refusal.reason == "queue_timeout"
    assert refusal.detail.endswith("GET /health on port 8000 answered 404")


@pytest.mark.parametrize(
    ("record_changes", "status_changes", "running", "closed", "failing", "hint"),
    [
        ({}, {}, False, None, None, None),
        ({"paused": True}, {}, True, "paused", None, None),
        ({"deleted_at": EPOCH}, {}, True, "deleting", None, None),
        ({}, {"reason": EndpointReason.NO_CAPACITY}, False, None, None, "no_capacity"),
        ({}, {"reason": EndpointReason.QUOTA_EXCEEDED}, False, None, None, "quota_exceeded"),
        ({}, {"reason": EndpointReason.QUOTA_EXCEEDED}, True, None, None, None),
        # something runs: waiting makes sense
        ({}, {"reason": EndpointReason.CRASH_BACKOFF}, True, None, None, None),
        ({}, {"reason": EndpointReason.CRASH_BACKOFF}, False, None, "crash_backoff", None),
        ({}, {"state": EndpointState.FAILED}, False, None, "failed", None),
        # the status speaks of the revision before the one that mends it
        ({"revision": 3}, {"state": EndpointState.FAILED}, False, None, None, None),
        ({}, {"reason": EndpointReason.STARTING}, False, None, None, None),
        (
            {},
            {"reason": EndpointReason.STARTING, "message": "GET /health answered 404"},
            *(False, None, None, "queue_timeout"),
        ),
        (
            {},
            {"reason": EndpointReason.STARTING, "message": "GET /health answered 404"},
            *(True, None, None, None),
        ),
    ],
)
def test_what_stands_in_an_endpoints_way(
    record_changes: dict[str, object],
    status_changes: dict[str, object],
    running: bool,
    closed: str | None,
    failing: str | None,
    hint: str | None,
) -> None:
    condition = judge_endpoint(
        record(**record_changes), status(**status_changes), running=running, utc_now=EPOCH
    )
    assert (condition.closed.reason if condition.closed else None) == closed
    assert (condition.failing.reason if condition.failing else None) == failing
    assert condition.hint_reason == hint


def test_after_retry_at_requests_wait_again_so_that_the_scheduler_tries() -> None:
    backoff = status(
        reason=EndpointReason.CRASH_BACKOFF,
        retry_at=EPOCH + timedelta(seconds=10),
        message="exit 1",
    )
    before = judge_endpoint(record(), backoff, running=False, utc_now=EPOCH + timedelta(seconds=4))
    assert before.failing is not None
    assert before.failing.retry_after_s == 6
    after = judge_endpoint(record(), backoff, running=False, utc_now=EPOCH + timedelta(seconds=10))
    assert after.failing is None
    assert after.hint == "exit 1"


def test_without_a_status_nothing_stands_in_the_way() -> None:
    assert judge_endpoint(record(), None, running=False, utc_now=EPOCH) == CLEAR


Step = tuple[str | TicketOutcome, int, bool]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("arrive"), st.integers(0, 30), st.booleans()),
            st.tuples(st.sampled_from(list(TicketOutcome)), st.integers(0, 30), st.booleans()),
        )
    )
)
def test_every_ticket_ends_in_exactly_one_outcome(steps: list[Step]) -> None:
    waiting = WaitingList()
    n_decided = n_slots = 0
    expected: list[str] = []
    for now, (what, number, flag) in enumerate(steps):
        ticket = f"t{number}"
        if not isinstance(what, TicketOutcome):
            if ticket in waiting:
                continue
            n_decided += 1
            match decide(waiting, slot_free=flag):
                case Admission.SLOT:
                    n_slots += 1
                    assert not expected
                case Admission.WAIT:
                    waiting.enqueue(ticket, now=float(now))
                    expected.append(ticket)
                case Refusal():
                    assert len(waiting) == LIMITS.max_waiting
        elif what is not TicketOutcome.REJECTED:
            waited = waiting.end(ticket, what, now=float(now))
            assert (waited is not None) == (ticket in expected)
            if ticket in expected:
                expected.remove(ticket)
        assert list(waiting) == expected
        assert len(waiting) <= LIMITS.max_waiting
    n_ended = sum(waiting.ended(outcome) for outcome in TicketOutcome)
    assert n_decided == n_slots + n_ended + len(waiting)
