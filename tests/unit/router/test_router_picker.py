"""Affinity: the same key goes to the same worker, as long as that is not overloaded."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from penstock_router.picker import pick_by_affinity, pick_least_busy
from penstock_router.slots import SlotTable


@dataclass(frozen=True)
class Candidate:
    worker_id: str
    in_flight: int
    picked: int = 0


def free(loads: dict[str, int]) -> list[Candidate]:
    return [Candidate(worker_id, load) for worker_id, load in loads.items()]


def test_a_key_keeps_its_worker() -> None:
    loads = {f"wk-{n}": 0 for n in range(5)}
    picked = {key: pick_by_affinity(key, free(loads), loads) for key in map(str, range(50))}
    for key, before in picked.items():
        assert pick_by_affinity(key, reversed(free(loads)), loads) == before
    assert len({c.worker_id for c in picked.values() if c}) == 5


def test_a_worker_that_leaves_moves_its_own_keys_only() -> None:
    loads = {f"wk-{n}": 0 for n in range(5)}
    fewer = {i: n for i, n in loads.items() if i != "wk-3"}
    for key in map(str, range(200)):
        before = pick_by_affinity(key, free(loads), loads)
        after = pick_by_affinity(key, free(fewer), fewer)
        assert before is not None
        assert after is not None
        if before.worker_id != "wk-3":
            assert after == before


def test_an_overloaded_worker_gives_way() -> None:
    loads = {"wk-1": 0, "wk-2": 0}
    first = pick_by_affinity("k", free(loads), loads)
    assert first is not None
    loads[first.worker_id] = 2  # the mean is 1, the bound 2 with the newcomer
    second = pick_by_affinity("k", free(loads), loads)
    assert second is not None
    assert second.worker_id != first.worker_id


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.text(max_size=8))
def test_somebody_is_always_within_the_bound_when_all_have_free_slots(
    counts: list[int], key: str
) -> None:
    loads = {f"wk-{n}": count for n, count in enumerate(counts)}
    picked = pick_by_affinity(key, free(loads), loads)
    assert picked is not None
    assert picked.in_flight <= 1.25 * (sum(counts) + 1) / len(counts) + 1


def test_the_slot_table_follows_the_key() -> None:
    table = SlotTable(pick_least_busy)
    for n in range(4):
        table.put_worker(f"wk-{n}", n_slots=10, accepting=True, now=0.0)
    used: Counter[str | None] = Counter()
    for n in range(20):
        used[table.try_acquire(f"l{n}", affinity="session-7")] += 1
        table.release(f"l{n}", now=1.0)
    assert len(used) == 1
