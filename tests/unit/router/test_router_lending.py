"""Lent slots come back by any of the ways, once, and not too early."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_router.slot_protocol.lending import (
    ASK_AGAIN_S,
    ASKING_S,
    LEAST_FREE,
    Demand,
    Lent,
    LentSlots,
)


def out(lent: LentSlots, lease_id: str, origin_id: str = "rt-x", **fields: object) -> Lent:
    entry = Lent(origin_id, "ep-1", "wk-1", lent.next_number(origin_id), False, 0.0)
    for name, value in fields.items():
        setattr(entry, name, value)
    lent.add(lease_id, entry)
    return entry


def listed(
    lent: LentSlots, held: tuple[str, ...], number: int, boot: str = "b1"
) -> tuple[str, ...]:
    return lent.listed("rt-x", boot, held, number=number, now=1.0)


def test_a_list_that_has_seen_the_offer_and_lacks_the_lease_ends_it() -> None:
    lent = LentSlots()
    out(lent, "l1")
    assert listed(lent, (), number=1) == ("l1",)


def test_a_list_from_before_the_offer_says_nothing() -> None:
    lent = LentSlots()
    out(lent, "l1")
    out(lent, "l2")
    assert listed(lent, (), number=1) == ("l1",)
    assert listed(lent, (), number=0) == ()


def test_a_lease_that_an_earlier_driver_gave_is_over_when_no_list_has_it() -> None:
    lent = LentSlots()
    out(lent, "l1", number=0)
    assert listed(lent, ("l1",), number=0) == ()
    assert listed(lent, (), number=0) == ("l1",)


def test_what_an_earlier_run_of_the_other_router_held_is_over() -> None:
    lent = LentSlots()
    out(lent, "l1")
    assert listed(lent, ("l1",), number=1, boot="b1") == ()
    assert listed(lent, (), number=0, boot="b2") == ("l1",)


def test_lists_of_another_router_say_nothing() -> None:
    lent = LentSlots()
    out(lent, "l1")
    assert lent.listed("rt-y", "b", (), number=9, now=1.0) == ()


def test_silence_is_asked_about_not_taken_for_an_end() -> None:
    lent = LentSlots()
    out(lent, "l1")
    assert lent.plan_asking(now=ASK_AGAIN_S - 0.1) == ((), frozenset())
    assert lent.plan_asking(now=ASK_AGAIN_S) == (("l1",), frozenset({"rt-x"}))
    assert lent.plan_asking(now=ASK_AGAIN_S + 1) == ((), frozenset())
    listed(lent, ("l1",), number=1)
    assert lent.plan_asking(now=99.0) == ((), frozenset({"rt-x"}))  # it was seen: a list will do
    assert "l1" in lent


def test_leases_by_router_and_worker() -> None:
    lent = LentSlots()
    out(lent, "l1")
    out(lent, "l2", "rt-y", keeps=True, worker_id="wk-2")
    assert lent.of_origin("rt-x") == ("l1",)
    assert tuple(lent.of_worker("wk-2")) == ("l2",)
    assert lent.origins() == {"rt-x", "rt-y"}
    assert lent.keepers("ep-1") == {"rt-y"}
    assert lent.keepers("ep-1", "wk-1") == frozenset()


def test_who_asks_once_is_lent_nothing_ahead() -> None:
    assert Demand().plan_ahead("rt-x", free=100, now=0.0) is None


def test_who_keeps_asking_is_lent_as_many_as_it_asked_for_and_half_of_the_free_at_most() -> None:
    demand = Demand()
    demand.plan_ahead("rt-x", free=100, now=0.0)
    assert demand.plan_ahead("rt-x", free=100, now=0.1) == 2
    assert demand.plan_ahead("rt-x", free=100, now=0.2) == 3
    assert demand.plan_ahead("rt-x", free=LEAST_FREE, now=0.3) == LEAST_FREE // 2
    assert demand.plan_ahead("rt-x", free=LEAST_FREE - 1, now=0.4) is None


def test_who_asked_long_ago_does_not_keep_asking() -> None:
    demand = Demand()
    demand.plan_ahead("rt-x", free=100, now=0.0)
    assert demand.plan_ahead("rt-x", free=100, now=ASKING_S + 0.1) is None
    demand.forget(now=10.0)
    assert demand.plan_ahead("rt-x", free=100, now=10.0) is None


class LendingMachine(RuleBasedStateMachine):
    """Whatever is lost, late or repeated: a lease that the other router holds stays out."""

    @initialize()
    def begin(self) -> None:
        self.lent = LentSlots()
        self.held: set[str] = set()  # what the other router really holds
        self.seen = 0
        self.out: set[str] = set()  # what the driver must think is out

    @rule(arrives=st.booleans())
    def offer(self, arrives: bool) -> None:
        number = out(self.lent, f"l{len(self.out)}-{self.seen}").number
        lease_id = f"l{len(self.out)}-{self.seen}"
        self.out.add(lease_id)
        if arrives:
            self.held.add(lease_id)
            self.seen = number

    @rule(arrives=st.booleans(), data=st.data())
    def release(self, arrives: bool, data: st.DataObject) -> None:
        if not self.held:
            return
        lease_id = data.draw(st.sampled_from(sorted(self.held)))
        self.held.remove(lease_id)
        if arrives:
            assert self.lent.end(lease_id) is not None
            assert self.lent.end(lease_id) is None
            self.out.discard(lease_id)

    @rule()
    def list_held(self) -> None:
        over = listed(self.lent, tuple(self.held), number=self.seen)
        assert not set(over) & self.held
        for lease_id in over:
            self.lent.end(lease_id)
        self.out -= set(over)

    @invariant()
    def what_is_held_is_out(self) -> None:
        if hasattr(self, "lent"):
            assert self.held <= self.out
            assert len(self.lent) == len(self.out)


TestLendingMachine = LendingMachine.TestCase
