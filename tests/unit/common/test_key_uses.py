"""Of the uses of a key the last is told, and seldom."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from penstock_common.key_uses import EVERY_S, KeyUses
from tests.fakes.clock import EPOCH


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_the_last_use_is_told_once_and_then_not_for_a_while() -> None:
    uses = KeyUses()
    assert uses.due(EPOCH) == {}
    uses.note("a", EPOCH + at(2))
    uses.note("a", EPOCH + at(1))  # a router whose clock is behind
    assert uses.due(EPOCH + at(3)) == {"a": EPOCH + at(2)}
    uses.told("a", EPOCH + at(3))
    assert uses.due(EPOCH + at(3)) == {}
    uses.note("a", EPOCH + at(4))
    uses.note("b", EPOCH + at(4))
    assert uses.due(EPOCH + at(5)) == {"b": EPOCH + at(4)}
    assert uses.due(EPOCH + at(3 + EVERY_S)) == {"a": EPOCH + at(4), "b": EPOCH + at(4)}


def test_a_clock_that_is_set_back_silences_nobody() -> None:
    uses = KeyUses()
    uses.told("a", EPOCH + timedelta(days=400))
    uses.note("a", EPOCH)
    assert uses.due(EPOCH) == {"a": EPOCH}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans())))
def test_no_key_is_told_too_often_and_each_at_last(
    steps: list[tuple[str, int, bool]],
) -> None:
    uses, now = KeyUses(), EPOCH
    last_use: dict[str, datetime] = {}
    last_told: dict[str, datetime] = {}
    for key, wait_s, tells in steps:
        now += at(wait_s)
        uses.note(key, now)
        last_use[key] = now
        for due, used_at in uses.due(now).items() if tells else ():
            assert used_at == last_use[due]
            assert due not in last_told or now - last_told[due] >= at(EVERY_S)
            uses.told(due, now)
            last_told[due] = now
    end = now + at(EVERY_S)
    for key, used_at in last_use.items():
        assert uses.due(end).get(key) == used_at or last_told[key] >= used_at
