"""The slot table, by hand and against a plain model."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from penstock_router.picker import POLICIES, Balance
from penstock_router.slots import SlotTable


def table(**n_slots: int) -> SlotTable:
    slots = SlotTable(POLICIES["spread"])
    for worker_id, n in n_slots.items():
        slots.put_worker(worker_id, n_slots=n, accepting=True, now=0.0)
    return slots


def test_gives_out_exactly_the_slots_there_are() -> None:
    slots = table(w1=1, w2=2)
    assert {slots.try_acquire(f"l{i}") for i in range(3)} == {"w1", "w2"}
    assert slots.try_acquire("l3") is None
    assert (slots.free, slots.in_flight) == (0, 3)


def test_release_is_safe_to_repeat() -> None:
    slots = table(w1=1)
    slots.try_acquire("l1")
    assert slots.release("l1", now=1.0) == "w1"
    assert slots.release("l1", now=2.0) is None
    assert slots.free == 1
    assert slots.idle_s("w1", now=3.0) == 2.0


def test_a_lease_is_given_once() -> None:
    slots = table(w1=2)
    slots.try_acquire("l1")
    with pytest.raises(ValueError, match="out already"):
        slots.try_acquire("l1")


def test_lowering_the_slots_below_what_is_in_flight_waits_for_ends() -> None:
    slots = table(w1=3)
    for i in range(3):
        slots.try_acquire(f"l{i}")
    slots.put_worker("w1", n_slots=1, accepting=True, now=1.0)
    slots.release("l0", now=2.0)
    slots.release("l1", now=2.0)
    assert slots.free == 0
    slots.release("l2", now=2.0)
    assert slots.free == 1


def test_raising_the_slots_says_how_many_are_free_now() -> None:
    slots = table(w1=1)
    slots.try_acquire("l1")
    assert slots.put_worker("w1", n_slots=4, accepting=True, now=1.0) == 3
    assert slots.put_worker("w1", n_slots=4, accepting=False, now=1.0) == 0


def test_a_worker_that_comes_back_still_counts_its_old_leases() -> None:
    slots = table(w1=1)
    slots.try_acquire("l1")
    slots.remove_worker("w1")
    slots.put_worker("w1", n_slots=1, accepting=True, now=1.0)
    assert slots.try_acquire("l2") is None
    assert slots.release("l1", now=2.0) == "w1"
    assert slots.try_acquire("l2") == "w1"


def test_idle_counts_from_the_first_time_it_accepts() -> None:
    slots = SlotTable(POLICIES["spread"])
    slots.put_worker("w1", n_slots=1, accepting=False, now=1.0)
    assert slots.idle_s("w1", now=9.0) == 0.0
    slots.put_worker("w1", n_slots=1, accepting=True, now=10.0)
    slots.put_worker("w1", n_slots=1, accepting=True, now=12.0)
    assert slots.idle_s("w1", now=15.0) == 5.0
    slots.try_acquire("l1")
    assert slots.idle_s("w1", now=20.0) == 0.0


def test_spread_takes_the_least_busy_and_turns_round() -> None:
    slots = table(w1=2, w2=2)
    assert [slots.try_acquire(f"l{i}") for i in range(4)] == ["w1", "w2", "w1", "w2"]
    for i in range(4):
        slots.release(f"l{i}", now=1.0)
    # w1 was picked longer ago
    assert slots.try_acquire("l4") == "w1"


def test_pack_fills_one_worker_first() -> None:
    slots = SlotTable(POLICIES["pack"])
    for worker_id in ("w1", "w2"):
        slots.put_worker(worker_id, n_slots=2, accepting=True, now=0.0)
    first = [slots.try_acquire(f"l{i}") for i in range(4)]
    assert first[0] == first[1] != first[2] == first[3]


def test_avoids_the_worker_that_just_failed() -> None:
    slots = table(w1=1, w2=1)
    assert slots.try_acquire("l1", avoid={"w1"}) == "w2"
    assert slots.try_acquire("l2", avoid={"w1"}) is None


class SlotMachine(RuleBasedStateMachine):
    """Any order of changes of workers, acquires and releases."""

    leases = Bundle("leases")

    @initialize(balance=st.sampled_from(["spread", "pack"]))
    def begin(self, balance: Balance) -> None:
        self.slots = SlotTable(POLICIES[balance])
        self.driven: dict[str, tuple[int, bool]] = {}
        self.held: dict[str, str] = {}
        self.over: list[str] = []
        self.n = 0
        self.now = 0.0

    @rule(
        worker_id=st.sampled_from(["w1", "w2", "w3"]),
        n_slots=st.integers(1, 4),
        accepting=st.booleans(),
    )
    def put(self, worker_id: str, n_slots: int, accepting: bool) -> None:
        free = self.slots.free
        more = self.slots.put_worker(worker_id, n_slots=n_slots, accepting=accepting, now=self.now)
        assert more == max(0, self.slots.free - free)
        self.driven[worker_id] = (n_slots, accepting)

    @rule(worker_id=st.sampled_from(["w1", "w2", "w3"]))
    def remove(self, worker_id: str) -> None:
        self.slots.remove_worker(worker_id)
        self.driven.pop(worker_id, None)

    @rule(target=leases, avoid=st.sets(st.sampled_from(["w1", "w2", "w3"])))
    def acquire(self, avoid: set[str]) -> str:
        self.n += 1
        lease_id = f"l{self.n}"
        could = {w for w in self.driven if self._free(w) and w not in avoid}
        worker_id = self.slots.try_acquire(lease_id, avoid=avoid)
        assert (worker_id in could) if could else worker_id is None
        if worker_id is not None:
            # never more in flight than slots at the moment one is given out
            assert self._in_flight(worker_id) < self.driven[worker_id][0]
            self.held[lease_id] = worker_id
        return lease_id

    @rule(lease_id=consumes(leases))
    def release(self, lease_id: str) -> None:
        self.now += 1.0
        assert self.slots.release(lease_id, now=self.now) == self.held.pop(lease_id, None)
        self.over.append(lease_id)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        lease_id = data.draw(st.sampled_from(self.over))
        assert self.slots.release(lease_id, now=self.now) is None

    @invariant()
    def no_slot_leaks(self) -> None:
        if not hasattr(self, "slots"):
            return
        assert self.slots.in_flight == len(self.held)
        assert self.slots.free == sum(self._free(w) for w in self.driven)
        for worker_id in ("w1", "w2", "w3"):
            assert self.slots.leases(worker_id) == self._in_flight(worker_id)
        assert set(self.slots.worker_ids()) == set(self.driven) | set(self.held.values())

    def _in_flight(self, worker_id: str) -> int:
        return sum(w == worker_id for w in self.held.values())

    def _free(self, worker_id: str) -> int:
        n_slots, accepting = self.driven[worker_id]
        return max(0, n_slots - self._in_flight(worker_id)) if accepting else 0


TestSlotMachine = SlotMachine.TestCase
