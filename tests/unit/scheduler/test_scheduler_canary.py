"""Two revisions that share the traffic: how many workers of each, and what takes their places."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.messages import ApiKeyRecord
from penstock_common.states import EndpointReason, EndpointState
from penstock_scheduler.rollout.canary import divide
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = [pytest.mark.usefixtures("both_ways")]


@given(wanted=st.integers(0, 10_000), percent=st.integers(1, 99))
def test_a_division_is_whole_and_as_near_as_can_be(wanted: int, percent: int) -> None:
    stable, canary = divide(wanted, percent)
    if wanted <= 1:
        assert (stable, canary) == (wanted, wanted)
        return
    assert stable + canary == wanted
    assert stable >= 1
    assert canary >= 1
    assert abs(canary - wanted * percent / 100) <= 0.5 or 1 in (stable, canary)


@given(wanted=st.integers(0, 200), percent=st.integers(1, 99))
def test_a_side_does_not_shrink_as_more_are_wanted(wanted: int, percent: int) -> None:
    before, after = divide(wanted, percent), divide(wanted + 1, percent)
    assert after[0] >= before[0]
    assert after[1] >= before[1]


def shares(world: World) -> tuple[int, int]:
    stable, canary = world.sides()
    return len(stable), len(canary)


def running(*, least: int, most: int, n_gpus: int = 8) -> World:
    world = World(start_s=1)
    world.join(make_node(n_gpus=n_gpus))
    world.put(
        make_record(gpu={"count": 1}, workers={"min": least, "max": most, "idle_timeout_s": 5})
    )
    world.run(15, dt=1)
    assert world.running() == least
    return world


def test_shares_are_taken_over_one_by_one_at_the_limit() -> None:
    world = running(least=4, most=4)
    world.begin_canary(percent=50)
    seen = []
    for _ in range(20):
        world.run(0.5, dt=0.5)
        stable, canary = shares(world)
        assert 4 <= stable + canary <= 5
        assert world.running() >= 4
        if (stable, canary) not in seen:
            seen.append((stable, canary))
    assert seen == [(4, 1), (3, 1), (3, 2), (2, 2)]
    assert world.statuses["ep-1"].state is EndpointState.SERVING


def test_of_one_worker_each_side_has_one_even_above_the_limit() -> None:
    world = running(least=1, most=1)
    stable = world.wanted()
    world.begin_canary(percent=10)
    world.run(10, dt=0.5)
    assert shares(world) == (1, 1)
    assert world.sides()[0][0].worker_id == stable[0].worker_id
    world.run(60, dt=2)
    assert shares(world) == (1, 1)


def test_both_sides_fall_to_zero_together_and_come_back_together() -> None:
    world = running(least=0, most=3)
    world.begin_canary(percent=10)
    world.run(5, dt=1)
    assert shares(world) == (0, 0)
    world.arrive(1)
    world.run(3, dt=0.5)
    assert shares(world) == (1, 1)
    for _ in range(10):
        world.arrive(1)
        world.run(2, dt=0.5)
        assert shares(world) == (1, 1)  # also the one that got none of these requests
    world.run(20, dt=1)
    assert shares(world) == (0, 0)


def test_without_a_gpu_some_of_the_excess_makes_room() -> None:
    world = running(least=2, most=2, n_gpus=2)
    world.begin_canary(percent=50)
    world.run(10, dt=0.5)
    assert shares(world) == (1, 1)


def test_without_a_gpu_the_only_stable_worker_stays() -> None:
    world = running(least=1, most=1, n_gpus=1)
    world.begin_canary(percent=50)
    world.run(10, dt=0.5)
    assert shares(world) == (1, 0)
    assert world.running() == 1
    assert world.statuses["ep-1"].reason is EndpointReason.NO_CAPACITY


def test_a_promoted_canary_replaces_the_stable_workers() -> None:
    world = running(least=4, most=4)
    world.begin_canary(percent=25)
    world.run(10, dt=0.5)
    canary = world.sides()[1]
    world.change(canary=None)
    for _ in range(40):
        world.run(0.5, dt=0.5)
        assert world.running() >= 4
    assert {a.revision for a in world.wanted()} == {2}
    assert canary[0].worker_id in {a.worker_id for a in world.wanted()}


def test_an_aborted_canary_leaves_the_stable_workers_alone() -> None:
    world = running(least=4, most=4)
    world.begin_canary(percent=25)
    world.run(10, dt=0.5)
    stable = {a.worker_id for a in world.sides()[0]}
    world.abort_canary()
    for _ in range(40):
        world.run(0.5, dt=0.5)
        assert world.running() >= 4
    assert {a.revision for a in world.wanted()} == {1, 3}
    assert stable < {a.worker_id for a in world.wanted()}


def test_a_canary_that_cannot_start_is_told_as_failed_and_costs_no_stable_worker() -> None:
    world = running(least=4, most=4)
    before = {a.worker_id for a in world.wanted()}
    world.fails = lambda a: "exited with exit code 7" if a.revision == 2 else None
    world.begin_canary(percent=25)
    world.run(30, dt=0.5)
    status = world.statuses["ep-1"]
    assert (status.failed_revision, status.good_revision) == (2, 1)
    assert before == {a.worker_id for a in world.sides()[0]}


def test_from_zero_a_canary_that_cannot_start_keeps_nobody_from_the_stable_revision() -> None:
    world = running(least=0, most=3)
    world.start_s = 3.0
    world.fails = lambda a: "exited with exit code 7" if a.revision == 2 else None
    world.begin_canary(percent=50)
    world.arrive(1)
    world.run(1, dt=0.5)
    world.kill(world.sides()[1][0].worker_id)  # at once, while the stable one starts
    for _ in range(8):
        world.run(0.5, dt=0.5)
        status = world.statuses["ep-1"]
        assert status.reason is not EndpointReason.CRASH_BACKOFF
        assert status.state is not EndpointState.FAILED
    assert len(world.requests["ep-1"].waits) == 1
    assert world.statuses["ep-1"].message == "exited with exit code 1"


def test_a_stable_revision_that_fails_is_backed_off_and_the_canary_is_not() -> None:
    world = running(least=2, most=2)
    world.begin_canary(percent=50)
    world.run(10, dt=0.5)
    world.fails = lambda a: "exited with exit code 7" if a.revision == 1 else None
    n_before = len(world.starts)
    world.kill(world.sides()[0][0].worker_id)
    world.run(60, dt=0.5)
    assert 3 <= len(world.starts) - n_before <= 7
    assert len(world.sides()[1]) == 1
    assert world.statuses["ep-1"].failed_revision is None


def drivers(world: World) -> set[str | None]:
    return {a.driver for a in world.wanted()}


def test_one_router_drives_both_sides_also_after_the_death_of_the_one_that_did() -> None:
    world = World(start_s=1)
    world.have_routers({"rt-1", "rt-2"}, set())
    world.join(make_node(n_gpus=8))
    world.put(make_record(gpu={"count": 1}, workers={"min": 4, "max": 4, "idle_timeout_s": 5}))
    world.run(15, dt=1)
    assert drivers(world) == {"rt-1", "rt-2"}
    world.begin_canary(percent=50)
    world.tick()
    (driver,) = drivers(world)
    world.run(20, dt=0.5)
    assert drivers(world) == {driver}
    other = ({"rt-1", "rt-2"} - {driver}).pop()
    world.have_routers({other}, {driver or ""})
    world.run(5, dt=0.5)
    assert drivers(world) == {other}
    assert shares(world) == (2, 2)


def test_a_canary_gives_no_side_up_for_an_endpoint_that_waits() -> None:
    """One of either side is what one wanted worker means, so neither is to spare."""
    world = running(least=1, most=1, n_gpus=2)
    world.begin_canary(percent=50)
    world.run(40, dt=1)
    assert shares(world) == (1, 1)
    world.put(make_record("ep-2", gpu={"count": 1}, workers={"min": 0, "max": 1}))
    world.arrive(1, "ep-2")
    world.run(10, dt=1)
    assert shares(world) == (1, 1)
    assert world.statuses["ep-2"].reason is EndpointReason.NO_CAPACITY


def test_within_a_quota_some_of_the_excess_makes_room() -> None:
    world = World(start_s=1)
    world.keys["key-1"] = ApiKeyRecord(
        key_id="key-1",
        name="ours",
        sha256="0" * 64,
        scope="deploy",
        max_workers=2,
        created_at=EPOCH,
    )
    world.join(make_node(n_gpus=8))
    limits: dict[str, object] = {"min": 2, "max": 2, "idle_timeout_s": 5}
    world.put(make_record(gpu={"count": 1}, workers=limits, owner="key-1"))
    world.run(15, dt=1)
    world.begin_canary(percent=50)
    world.run(15, dt=0.5)
    assert shares(world) == (1, 1)
