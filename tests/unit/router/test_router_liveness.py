"""A router is taken for dead only when we could have seen it live."""

from penstock_router.liveness import LOST_S, Liveness


def test_a_router_that_expires_under_our_eyes_is_lost() -> None:
    liveness = Liveness()
    liveness.watch(whole=True, now=0.0)
    liveness.heard("rt-x", now=20.0)
    assert not liveness.is_lost("rt-x", (), now=29.9)
    assert liveness.is_lost("rt-x", (), now=20.0 + LOST_S)


def test_a_router_with_a_record_lives() -> None:
    liveness = Liveness()
    liveness.watch(whole=True, now=0.0)
    assert not liveness.is_lost("rt-x", ("rt-x",), now=100.0)


def test_nobody_is_lost_while_the_table_is_not_whole() -> None:
    liveness = Liveness()
    assert not liveness.is_lost("rt-x", (), now=100.0)
    liveness.watch(whole=True, now=0.0)
    liveness.watch(whole=False, now=50.0)
    assert not liveness.is_lost("rt-x", (), now=100.0)


def test_after_a_gap_in_our_sight_the_time_counts_anew() -> None:
    """A restart of nats-server empties the bucket of records."""
    liveness = Liveness()
    liveness.watch(whole=True, now=0.0)
    liveness.heard("rt-x", now=1.0)
    liveness.watch(whole=False, now=50.0)
    liveness.watch(whole=True, now=60.0)
    assert not liveness.is_lost("rt-x", (), now=60.0 + LOST_S - 0.1)
    assert liveness.is_lost("rt-x", (), now=60.0 + LOST_S)


def test_any_sign_of_life_counts() -> None:
    liveness = Liveness()
    liveness.watch(whole=True, now=0.0)
    for second in range(100):
        liveness.heard("rt-x", now=float(second))
        liveness.forget((), now=float(second))
        assert not liveness.is_lost("rt-x", (), now=float(second))
    liveness.forget((), now=99.0 + 11 * LOST_S)
    assert liveness.is_lost("rt-x", (), now=99.0 + 11 * LOST_S)
