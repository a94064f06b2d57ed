"""Which endpoints are decided on next."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from penstock_scheduler.agenda import SLICE, Agenda


@given(st.integers(0, 150), st.sets(st.integers(0, 149)))
def test_a_pass_takes_each_once_and_every_poke_comes_first(n: int, poked: set[int]) -> None:
    order = [f"ep-{i}" for i in range(n)]
    agenda = Agenda(1.0)
    assert agenda.pass_due(0)
    agenda.begin_pass(order, 0)
    for i in poked:
        agenda.poke(f"ep-{i}")
    pokes = {f"ep-{i}" for i in poked}
    now, seen = 0.0, Counter[str]()
    n_takes = 0
    while not agenda.pass_due(now):
        taken = agenda.take(now)
        n_takes += 1
        assert len(taken) <= 50 + SLICE
        seen.update(taken)
        wait_s = agenda.wait_s(now)
        pokes -= taken
        assert (wait_s == 0) or not pokes
        if pokes:
            assert len(taken) >= 50
        now += wait_s
    assert set(seen) == {*order, *(f"ep-{i}" for i in poked)}
    assert seen.total() <= n + len(poked)
    assert 0.99 <= now <= 1.01 or n == 0
    assert n_takes <= n // SLICE + 3 + len(poked) // 50 + 1


def test_all_poked_hurries_the_pass_that_is_under_way_and_then_begins_another() -> None:
    agenda = Agenda(1.0)
    order = [f"ep-{i}" for i in range(3 * SLICE)]
    agenda.begin_pass(order, 0)  # the first pass is one that is poked: all of it is due
    for _ in range(3):
        assert agenda.wait_s(0) == 0
        assert len(agenda.take(0)) == SLICE
    assert agenda.wait_s(0.25) == 0.75
    assert agenda.pass_due(1)
    agenda.begin_pass(order, 1)
    assert len(agenda.take(1)) == SLICE
    assert agenda.take(1) == set()
    agenda.poke_all()
    agenda.poke_all()
    assert not agenda.pass_due(1)  # or it would never come to its end
    assert len(agenda.take(1)) == SLICE
    assert len(agenda.take(1)) == SLICE
    assert agenda.pass_due(1)


def test_every_tenth_pass_is_whole_and_so_is_one_that_all_were_poked_for() -> None:
    agenda = Agenda(1.0)
    whole = []
    for n in range(25):
        whole.append(agenda.whole)
        agenda.begin_pass([], float(n))
        if n == 13:
            agenda.poke_all()
    assert [n for n, is_whole in enumerate(whole) if is_whole] == [0, 10, 14, 20]
