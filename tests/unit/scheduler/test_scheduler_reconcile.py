"""Stories of the whole core in the pure world: scale, roll, drain, fail, lose."""

import pytest

from penstock_common.events.catalogue import NODE_LOST, SCALE_DECIDED, WORKER_ASSIGNED
from penstock_common.messages import NodeLost
from penstock_common.states import DesiredState, EndpointState, WorkerReason
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


# ---- zero → N → zero


def test_from_zero_to_zero(world: World) -> None:
    world.put(make_record(workers={"idle_timeout_s": 10}))
    world.settle()
    assert world.state() is EndpointState.SERVING  # a request would start one
    world.arrive(1)
    plan = world.tick()
    (created,) = plan.creates
    assert (created.driver, created.revision, created.fencing_token) == ("rt-1", 1, 1)
    assert world.statuses["ep-1"].workers_starting == 1
    world.run(5)
    assert world.requests["ep-1"].waits == [5.0]
    assert world.statuses["ep-1"].workers_running == 1
    world.run(9)
    assert world.running() == 1
    world.run(10)
    assert world.of() == []
    assert world.state() is EndpointState.SERVING
    assert [(e.before, e.after, e.why) for e in world.data_of(SCALE_DECIDED)] == [
        (0, 1, "0 → 1: 1 waiting, oldest 0.0 s, none running"),
        (1, 0, "1 → 0: idle for 10 s"),
    ]
    assert len(world.data_of(WORKER_ASSIGNED)) == 1


@pytest.mark.parametrize("cancel", [True, False])
def test_a_start_that_nobody_waits_for_any_more_is_cancelled_if_so_wished(
    world: World, cancel: bool
) -> None:
    scaling = {"type": "request_count", "value": 1, "cancel_starts": cancel}
    world.put(make_record(workers={"max": 2, "idle_timeout_s": 10}, scaling=scaling))
    world.settle()
    world.arrive(2)
    world.tick()
    assert world.statuses["ep-1"].workers_starting == 2
    world.leave(2)
    world.run(2)
    assert len(world.of()) == (0 if cancel else 2)
    if cancel:
        assert world.data_of(SCALE_DECIDED)[-1].why == ("2 → 0: nobody waits for what starts")


def test_a_steady_load_makes_no_worker_come_and_go(world: World) -> None:
    world.put(make_record(workers={"max": 4, "idle_timeout_s": 5, "max_concurrency": 2}))
    world.run(60, rate=3.0)
    n_before = len(world.starts)
    world.run(600, rate=3.0)
    assert len(world.starts) == n_before
    assert world.running() >= 2
    assert max(world.requests["ep-1"].waits[-100:]) <= 4


def test_a_burst_is_served_by_more_and_then_they_go(world: World) -> None:
    world.put(make_record(workers={"min": 1, "max": 4, "idle_timeout_s": 5}))
    world.run(10)
    world.arrive(60)
    world.run(8)
    assert world.running() == 4
    world.run(60)
    assert not world.requests["ep-1"].waiting
    assert world.running() == 1


def test_the_longest_idle_goes_first_and_never_below_min(world: World) -> None:
    world.put(make_record(workers={"min": 1, "max": 3, "idle_timeout_s": 10}))
    world.change(spec=make_record(workers={"min": 3, "max": 3}).spec)
    world.run(6)
    names = sorted(a.worker_id for a in world.of())
    for idle_since, name in enumerate(names):
        world.slots[name].idle_since = world.now - 20 + idle_since
    world.change(spec=make_record(workers={"min": 1, "max": 3, "idle_timeout_s": 10}).spec)
    plan = world.tick()
    assert [a.worker_id for a in plan.changes] == names[:2]
    assert {a.reason for a in plan.changes} == {WorkerReason.IDLE}
    world.run(100)
    assert [a.worker_id for a in world.of()] == names[2:]


def test_what_waits_brings_draining_workers_back(world: World) -> None:
    world.put(make_record(workers={"min": 1, "idle_timeout_s": 5}))
    world.run(8)
    world.change(spec=make_record(workers={"min": 0, "idle_timeout_s": 1}).spec)
    (draining,) = world.tick().changes
    assert draining.desired is DesiredState.DRAINING
    world.requests["ep-1"].waiting.append(world.now)  # before the driver said that it is empty
    plan = world.tick()
    assert [(a.worker_id, a.desired, a.reason) for a in plan.changes] == [
        (draining.worker_id, DesiredState.RUNNING, None)
    ]
    assert not plan.creates


def test_workers_whose_driver_says_nothing_are_not_idle(world: World) -> None:
    world.put(make_record(workers={"min": 1, "idle_timeout_s": 1}))
    world.run(6)
    world.change(spec=make_record(workers={"min": 0, "idle_timeout_s": 1}).spec)
    world.reporting = False
    world.run(60)
    assert world.running() == 1


def test_a_lower_max_drains_even_busy_workers_but_lets_them_finish(world: World) -> None:
    world.service_s = 30
    world.put(make_record(workers={"min": 3, "max": 3}))
    world.run(6)
    world.arrive(3)
    world.tick()
    world.change(spec=make_record(workers={"max": 1}).spec)
    world.run(20)
    assert len(world.wanted()) == 1
    assert len(world.of()) == 3
    world.run(15)
    assert len(world.of()) == 1
    assert {a.reason for p in world.plans for a in p.changes} == {WorkerReason.SCALED_DOWN}


# ---- drains


def test_a_drain_ends_with_the_longest_life_of_a_request(world: World) -> None:
    world.service_s = 1000
    world.put(make_record(workers={"min": 1, "request_timeout_s": 60}))
    world.run(6)
    world.arrive(1)
    world.routers = frozenset()  # so that the world does not mind the busy worker's stop
    world.routers = frozenset({"rt-1"})
    world.change(paused=True)
    world.tick()
    world.run(59)
    assert [a.desired for a in world.of()] == [DesiredState.DRAINING]
    world.slots.clear()  # its driver would still say busy; the router has given up by now
    world.run(2)
    assert world.of() == []


def test_a_drain_does_not_wait_for_a_dead_driver(world: World) -> None:
    world.service_s = 1000
    world.put(make_record(workers={"min": 1}))
    world.run(6)
    world.arrive(1)
    world.change(paused=True)
    world.tick()
    world.routers, world.lost_routers = frozenset(), frozenset({"rt-1"})
    world.settle()
    assert world.of() == []


def test_a_worker_is_not_stopped_on_a_word_from_before_it_drained(world: World) -> None:
    """The driver said "empty" before it saw the order to drain: it may have given out a slot."""
    world.put(make_record(workers={"min": 1}))
    world.run(6)
    old_reports = world.reports()
    world.change(paused=True)
    world.tick()
    world.reports = lambda: old_reports  # type: ignore[method-assign]
    assert not world.tick()
    assert [a.desired for a in world.of()] == [DesiredState.DRAINING]


# ---- paused and deleted


def test_paused_and_resumed(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(6)
    world.change(paused=True)
    world.run(3)
    assert world.of() == []
    assert world.state() is EndpointState.PAUSED
    world.change(paused=False)
    world.tick()
    assert world.state() is EndpointState.DEPLOYING
    world.run(6)
    assert world.state() is EndpointState.SERVING


def test_deleted_says_deleting_until_all_is_gone(world: World) -> None:
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    world.change(deleted_at=EPOCH)
    world.tick()
    assert world.state() is EndpointState.DELETING
    assert world.statuses["ep-1"].workers_draining == 2
    world.run(3)
    assert world.of() == []
    assert world.statuses["ep-1"].workers_draining == 0
    del world.endpoints["ep-1"]  # the api
    world.settle()
    assert world.statuses == {}


def test_workers_without_a_record_are_stopped_once_the_view_has_settled(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(6)
    del world.endpoints["ep-1"]
    world.settled = False
    world.run(10)
    assert world.running() == 1
    world.settled = True
    world.run(3)
    assert world.of() == []
    assert world.statuses == {}


# ---- nodes and routers


def test_workers_of_a_lost_node_are_replaced(world: World) -> None:
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    lost = world.of()[0].node_id
    world.lost_nodes = frozenset({lost})
    plan = world.tick()
    assert len(plan.deletes) == len(plan.creates) == 1
    assert all(a.node_id != lost for a in world.of())
    assert world.data_of(NODE_LOST) == [NodeLost(node_id=lost, workers=1)]
    world.run(10)
    assert len(world.data_of(NODE_LOST)) == 1


def test_a_node_that_comes_back_keeps_gpus_booked_until_its_workers_have_ended() -> None:
    world = World(start_s=5)
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record(workers={"min": 1}))
    world.run(6)
    world.join(make_node("node-b", n_gpus=1))
    world.lost_nodes = frozenset({"node-a"})
    world.tick()
    assert [a.node_id for a in world.of()] == ["node-b"]  # replaced
    world.put(make_record(workers={"min": 2}))
    world.silent_agents = True
    world.lost_nodes = frozenset()
    world.tick()
    assert [a.node_id for a in world.of()] == ["node-b"]  # its status still says running
    world.silent_agents = False
    world.run(1)
    assert sorted(a.node_id for a in world.of()) == ["node-a", "node-b"]


def test_a_node_that_is_silent_but_not_lost_keeps_its_workers(world: World) -> None:
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    world.nodes.clear()
    world.run(60)
    assert len(world.wanted()) == 2


def test_drivers_move_only_when_theirs_is_lost(world: World) -> None:
    world.routers = frozenset({"rt-1", "rt-2"})
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    assert sorted(a.driver or "" for a in world.of()) == ["rt-1", "rt-2"]
    world.routers = frozenset({"rt-2"})
    assert not any(p.changes for p in [world.tick()])
    world.lost_routers = frozenset({"rt-1"})
    world.settle()
    assert [a.driver for a in world.of()] == ["rt-2", "rt-2"]
    world.routers, world.lost_routers = frozenset(), frozenset({"rt-2"})
    world.settle()
    assert [a.driver for a in world.of()] == [None, None]
    world.routers, world.lost_routers = frozenset({"rt-3"}), frozenset()
    world.settle()
    assert [a.driver for a in world.of()] == ["rt-3", "rt-3"]


# ---- leaders


def test_a_new_leader_changes_nothing_that_runs(world: World) -> None:
    world.put(make_record(workers={"min": 2, "max": 4}))
    world.run(10)
    world.arrive(3)
    world.run(5)
    world.replace_leader()
    assert not world.tick()


def test_status_is_written_only_when_it_says_something_new(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(20)
    n_before = sum(len(p.statuses) for p in world.plans)
    world.run(60)
    assert sum(len(p.statuses) for p in world.plans) == n_before
