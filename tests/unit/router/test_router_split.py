"""A canary's share: exact while both sides have free slots, and nobody waits for it."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.messages import Canary
from penstock_router.picker import POLICIES, Balance
from penstock_router.slots import SlotTable
from penstock_router.split import MOST_OWED
from tests.fakes.router_fleet import ENDPOINT, Fleet, SimRouter

percents = st.integers(1, 99)


def table(stable: dict[str, int], canary: dict[str, int], percent: int) -> SlotTable:
    slots = SlotTable(POLICIES["spread"])
    for worker_id, n in {**stable, **canary}.items():
        slots.put_worker(worker_id, n_slots=n, accepting=True, now=0.0)
    slots.share(percent, canary)
    return slots


def take(slots: SlotTable, lease_id: str) -> bool:
    """Take a slot; whether it is one of the canary."""
    worker_id = slots.try_acquire(lease_id)
    assert worker_id is not None
    return worker_id.startswith("c")


@given(percent=percents, n=st.integers(1, 1_000), policy=st.sampled_from(sorted(POLICIES)))
def test_the_share_is_never_off_by_a_whole_request(percent: int, n: int, policy: Balance) -> None:
    slots = SlotTable(POLICIES[policy])
    for worker_id in ("s1", "s2", "c1"):
        slots.put_worker(worker_id, n_slots=2, accepting=True, now=0.0)
    slots.share(percent, ("c1",))
    n_canary = 0
    for i in range(n):
        n_canary += take(slots, f"l{i}")
        slots.release(f"l{i}", now=0.0)
        assert abs(n_canary - (i + 1) * percent / 100) <= 0.5


@given(
    percent=st.sampled_from([5, 20, 50, 80]),
    seed=st.integers(0, 2**32),
    affinity=st.booleans(),
)
def test_shares_converge_with_many_requests_at_once(
    percent: int, seed: int, affinity: bool
) -> None:
    """Slots are held for random times; both sides have free ones all the while."""
    slots = table({"s1": 40, "s2": 40}, {"c1": 40}, percent)
    chance, held, n_canary = random.Random(seed), deque[str](), 0
    for i in range(1_000):
        key = f"client-{chance.randrange(20)}" if affinity else None
        worker_id = slots.try_acquire(f"l{i}", affinity=key)
        assert worker_id is not None
        n_canary += worker_id == "c1"
        held.append(f"l{i}")
        if len(held) >= 30:
            held.rotate(chance.randrange(30))
            slots.release(held.popleft(), now=0.0)
    assert abs(n_canary / 1_000 - percent / 100) <= 0.01


@given(
    percent=percents,
    n_stable=st.integers(0, 3),
    n_canary=st.integers(0, 3),
    steps=st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=60),
)
def test_nobody_waits_while_a_slot_is_free_and_no_slot_is_given_twice(
    percent: int, n_stable: int, n_canary: int, steps: list[int | None]
) -> None:
    slots = SlotTable(POLICIES["spread"])
    for worker_id, n in (("s1", n_stable), ("c1", n_canary)):
        if n:
            slots.put_worker(worker_id, n_slots=n, accepting=True, now=0.0)
    slots.share(percent, ("c1",))
    held: list[str] = []
    for i, step in enumerate(steps):
        if step is None:
            free = slots.free
            given = slots.try_acquire(f"l{i}")
            assert (given is None) == (free == 0)
            if given is not None:
                held.append(f"l{i}")
        elif held:
            slots.release(held.pop(step % len(held)), now=0.0)
        assert slots.leases("s1") <= n_stable
        assert slots.leases("c1") <= n_canary


def test_a_side_that_was_full_is_paid_back_some_of_what_it_missed() -> None:
    slots = table({"s1": 100}, {"c1": 1}, 50)
    assert take(slots, "held")
    for i in range(90):
        assert not take(slots, f"l{i}")  # the canary's only slot is taken
    slots.put_worker("c1", n_slots=100, accepting=True, now=0.0)
    for i in range(90):
        slots.release(f"l{i}", now=0.0)
    answers = [take(slots, f"m{i}") for i in range(60)]
    # While ten requests are paid back, ten more come due.
    assert all(answers[: 2 * MOST_OWED])
    assert sum(answers[2 * MOST_OWED :]) == 20


def test_without_a_canary_any_more_the_policy_alone_picks() -> None:
    slots = table({"s1": 50}, {"c1": 50}, 1)
    assert sum(take(slots, f"l{i}") for i in range(20)) == 0
    slots.share(None)
    assert slots.split is None
    assert sum(take(slots, f"m{i}") for i in range(60)) == 40  # least busy first: 40 each


def test_another_share_counts_from_now_on() -> None:
    slots = table({"s1": 200}, {"c1": 200}, 10)
    assert sum(take(slots, f"l{i}") for i in range(100)) == 10
    slots.share(90, ("c1",))
    assert sum(take(slots, f"m{i}") for i in range(100)) == 90


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    loop = asyncio.new_event_loop()
    yield Fleet(20, loop)
    loop.close()


def begin_canary(fleet: Fleet, percent: int) -> None:
    """`wk-1` runs the stable revision, `wk-2` the canary; rt-1 drives both."""
    for worker_id, revision in (("wk-1", 1), ("wk-2", 2)):
        fleet.drive(worker_id, "rt-1")
        assignment = fleet.assignments[worker_id]
        fleet.assignments[worker_id] = assignment.model_copy(update={"revision": revision})
    canary = Canary(percent=percent, stable=1, spec=fleet.record.spec)
    fleet.record = fleet.record.model_copy(update={"revision": 2, "canary": canary})


def serve(fleet: Fleet, router: SimRouter, n: int) -> Counter[str]:
    """So many requests, one after the other; by worker."""
    served = Counter[str]()
    for _ in range(n):
        router.arrive()
        if router.waiters:
            fleet.deliver_all()
            while any(fleet.hand_out(each) for each in fleet.living()):
                fleet.deliver_all()
            router.collect()
        (lease,) = router.active
        served[lease.worker_id] += 1
        router.finish(0)
        fleet.deliver_all()
        fleet.clock.advance(0.01)
    return served


def test_the_driver_splits_while_the_record_says_so(fleet: Fleet) -> None:
    router = fleet.start("rt-1")
    begin_canary(fleet, 30)
    router.sync()
    assert serve(fleet, router, 100) == {"wk-1": 70, "wk-2": 30}
    router.sync()  # nothing new: the count goes on
    assert serve(fleet, router, 10) == {"wk-1": 7, "wk-2": 3}
    fleet.record = fleet.record.model_copy(update={"canary": None})
    router.sync()
    assert router.dispatcher.lanes[ENDPOINT].slots.split is None
    assert serve(fleet, router, 100) == {"wk-1": 50, "wk-2": 50}


def test_requests_at_another_router_are_split_as_exactly(fleet: Fleet) -> None:
    """Also when that router was lent slots ahead of need before the canary came."""
    driver, other = fleet.start("rt-1"), fleet.start("rt-2")
    begin_canary(fleet, 20)
    with_canary = fleet.record
    fleet.record = fleet.record.model_copy(update={"canary": None})
    for router in (driver, other):
        router.sync()
    serve(fleet, other, 20)
    assert other.loans.idle(ENDPOINT) > 0
    fleet.record = with_canary
    for router in (driver, other):
        router.sync()
    fleet.deliver_all()
    assert serve(fleet, other, 100) == {"wk-1": 80, "wk-2": 20}
    assert other.loans.idle(ENDPOINT) == 0
