"""Borrowed slots: used again while that is allowed, given back otherwise."""

from penstock_router.catalogue import Address
from penstock_router.loans import Loan, Loans

AT = Address("127.0.0.1", 1)


def loan(lease_id: str, worker_id: str = "wk-1", *, keep_s: float = 1.0) -> Loan:
    return Loan(lease_id, "ep-1", worker_id, AT, "rt-d", 1, keep_s)


def test_a_slot_that_may_be_kept_serves_the_next_request() -> None:
    loans, one = Loans(), loan("l1")
    loans.add(one)
    assert loans.try_take("ep-1") is None  # it is in use
    assert not loans.end(one, keep=True, now=0.0)
    assert loans.try_take("ep-1") is one
    assert loans.try_take("ep-1") is None


def test_the_slot_used_last_is_used_next_so_that_surplus_falls_idle() -> None:
    loans, one, two = Loans(), loan("l1"), loan("l2")
    for each in (one, two):
        loans.add(each)
        loans.end(each, keep=True, now=0.0)
    assert loans.try_take("ep-1") is two


def test_a_slot_goes_back_that_may_not_be_kept() -> None:
    loans = Loans()
    for one, keep in ((loan("l1", keep_s=0.0), True), (loan("l2"), False)):
        loans.add(one)
        assert loans.end(one, keep=keep, now=0.0)
        assert one.lease_id not in loans
        assert not loans.end(one, keep=keep, now=0.0)  # once


def test_an_idle_slot_goes_back_after_a_while() -> None:
    loans, one = Loans(), loan("l1")
    loans.add(one)
    loans.end(one, keep=True, now=5.0)
    assert loans.expired(now=5.9) == ()
    assert loans.expired(now=6.0) == (one,)
    assert loans.expired(now=7.0) == ()
    assert len(loans) == 0


def test_a_recall_takes_the_idle_ones_and_lets_none_be_kept_for_a_while() -> None:
    loans, idle, used = Loans(), loan("l1"), loan("l2")
    loans.add(idle)
    loans.add(used)
    loans.end(idle, keep=True, now=0.0)
    assert loans.recall("rt-d", "ep-1", None, until=1.0) == (idle,)
    assert loans.end(used, keep=True, now=0.5)
    later = loan("l3")
    loans.add(later)
    assert not loans.end(later, keep=True, now=1.5)


def test_a_recall_of_one_worker_leaves_the_others() -> None:
    loans, one, two = Loans(), loan("l1", "wk-1"), loan("l2", "wk-2")
    for each in (one, two):
        loans.add(each)
        loans.end(each, keep=True, now=0.0)
    assert loans.recall("rt-d", "ep-1", "wk-1", until=1.0) == (one,)
    assert loans.recall("rt-other", "ep-1", None, until=1.0) == ()
    assert loans.try_take("ep-1") is two


def test_workers_to_avoid_are_avoided() -> None:
    loans, one, two = Loans(), loan("l1", "wk-1"), loan("l2", "wk-2")
    for each in (one, two):
        loans.add(each)
        loans.end(each, keep=True, now=0.0)
    assert loans.try_take("ep-1", avoid=("wk-2",)) is one
    assert loans.try_take("ep-1", avoid=("wk-2",)) is None


def test_while_suspended_no_slot_is_used_or_kept() -> None:
    loans, idle, used = Loans(), loan("l1"), loan("l2")
    loans.add(idle)
    loans.add(used)
    loans.end(idle, keep=True, now=0.0)
    loans.suspended = True
    assert loans.try_take("ep-1") is None
    assert loans.idle("ep-1") == 0
    assert loans.end(used, keep=True, now=0.0)


def test_a_slot_that_changed_its_driver_is_listed_to_both_and_not_kept() -> None:
    loans, one = Loans(), loan("l1")
    loans.add(one)
    loans.move(one, "rt-n", 2)
    loans.move(one, "rt-n", 2)
    assert loans.held() == {"rt-n": ["l1"], "rt-d": ["l1"]}
    assert loans.end(one, keep=True, now=0.0)
