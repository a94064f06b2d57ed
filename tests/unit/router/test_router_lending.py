"""Lent slots come back by any of the ways, once, and not too early."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_router.lending import ASK_AGAIN_S, MISSING_LISTS, LentSlots


def test_three_lists_without_it_end_a_lease() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    assert [lent.listed("rt-x", (), now=float(i)) for i in range(3)] == [(), (), ("l1",)]
    assert "l1" not in lent


def test_a_list_that_holds_it_starts_the_count_again() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    for held in [(), (), ("l1",), (), ()]:
        assert lent.listed("rt-x", held, now=1.0) == ()


def test_a_list_under_way_before_the_acceptance_does_not_count() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    lent.listed("rt-x", (), now=0.1)
    lent.listed("rt-x", (), now=1.1)
    lent.accepted("l1", now=1.2)
    assert lent.listed("rt-x", (), now=2.1) == ()


def test_lists_of_another_router_say_nothing() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    for _ in range(9):
        assert lent.listed("rt-y", (), now=1.0) == ()


def test_silence_is_asked_about_not_taken_for_an_end() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    assert lent.plan_asking(now=ASK_AGAIN_S - 0.1) == ()
    assert lent.plan_asking(now=ASK_AGAIN_S) == ("l1",)
    assert lent.plan_asking(now=ASK_AGAIN_S + 1) == ()
    assert "l1" in lent


def test_a_dead_origin_gives_all_back() -> None:
    lent = LentSlots()
    lent.offer("l1", "rt-x", now=0.0)
    lent.offer("l2", "rt-y", now=0.0)
    assert lent.lost("rt-x") == ("l1",)
    assert lent.lost("rt-x") == ()
    assert lent.origins() == {"rt-y"}


class LendingMachine(RuleBasedStateMachine):
    """Whatever is lost, late or repeated: a lease that its origin holds is never taken back."""

    @initialize()
    def begin(self) -> None:
        self.lent = LentSlots()
        self.held: set[str] = set()  # what the origin really holds
        self.out: set[str] = set()  # what the driver must think is out
        self.n = 0
        self.now = 0.0

    @rule(arrives=st.booleans(), answered=st.booleans())
    def offer(self, arrives: bool, answered: bool) -> None:
        self.n += 1
        lease_id = f"l{self.n}"
        self.lent.offer(lease_id, "rt-x", now=self.now)
        self.out.add(lease_id)
        if arrives:
            self.held.add(lease_id)
            if answered:
                self.lent.accepted(lease_id, now=self.now)

    @rule(arrives=st.booleans(), data=st.data())
    def release(self, arrives: bool, data: st.DataObject) -> None:
        if not self.held:
            return
        lease_id = data.draw(st.sampled_from(sorted(self.held)))
        self.held.remove(lease_id)
        if arrives:
            assert self.lent.end(lease_id)
            assert not self.lent.end(lease_id)
            self.out.discard(lease_id)

    @rule()
    def list_held(self) -> None:
        self.now += 1.0
        over = self.lent.listed("rt-x", tuple(self.held), now=self.now)
        assert not set(over) & self.held
        self.out -= set(over)

    @rule()
    def lists_settle_everything(self) -> None:
        for _ in range(MISSING_LISTS):
            self.list_held()
        assert self.out == self.held

    @invariant()
    def what_is_held_is_out(self) -> None:
        if not hasattr(self, "lent"):
            return
        assert self.held <= self.out
        assert len(self.lent) == len(self.out)


TestLendingMachine = LendingMachine.TestCase
