"""Stories of the whole core in the pure world: scale, roll, drain, fail, lose."""

from itertools import pairwise

import pytest

from penstock_common.events.catalogue import (
    NODE_LOST,
    SCALE_DECIDED,
    WORKER_ASSIGNED,
    D,
    EventType,
)
from penstock_common.messages import NodeLost
from penstock_common.states import DesiredState, EndpointReason, EndpointState, WorkerReason
from tests.fakes.scheduler_world import EPOCH, World, make_node, make_record

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def world() -> World:
    world = World(start_s=5, service_s=1)
    world.join(make_node("node-a", n_gpus=2), make_node("node-b", n_gpus=2))
    return world


def events(world: World, wanted: EventType[D]) -> list[D]:
    happened = (e for plan in world.plans for e in plan.events if e.type is wanted)
    return [e.data for e in happened if isinstance(e.data, wanted.data)]


def state(world: World, endpoint_id: str = "ep-1") -> EndpointState:
    return world.statuses[endpoint_id].state


# ---- zero → N → zero


def test_from_zero_to_zero(world: World) -> None:
    world.put(make_record(workers={"idle_timeout_s": 10}))
    world.settle()
    assert state(world) is EndpointState.SERVING  # a request would start one
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
    assert state(world) is EndpointState.SERVING
    assert [(e.before, e.after, e.why) for e in events(world, SCALE_DECIDED)] == [
        (0, 1, "0 → 1: 1 waiting, oldest 0.0 s, none running"),
        (1, 0, "1 → 0: idle for 10 s"),
    ]
    assert len(events(world, WORKER_ASSIGNED)) == 1


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
        assert events(world, SCALE_DECIDED)[-1].why == ("2 → 0: nobody waits for what starts")


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
    assert state(world) is EndpointState.PAUSED
    world.change(paused=False)
    world.tick()
    assert state(world) is EndpointState.DEPLOYING
    world.run(6)
    assert state(world) is EndpointState.SERVING


def test_deleted_says_deleting_until_all_is_gone(world: World) -> None:
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    world.change(deleted_at=EPOCH)
    world.tick()
    assert state(world) is EndpointState.DELETING
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


# ---- rolling update


def test_an_update_starts_the_new_before_it_stops_the_old(world: World) -> None:
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 2
        assert len(world.wanted()) <= 3
    assert {a.revision for a in world.of()} == {2}
    assert state(world) is EndpointState.SERVING
    states = [s.state for p in world.plans for s in p.statuses]
    assert EndpointState.UPDATING in states
    assert EndpointState.DEPLOYING not in states[states.index(EndpointState.UPDATING) :]


def test_without_a_spare_gpu_an_old_worker_makes_room(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=2)}
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    for _ in range(60):
        world.run(0.5)
        assert world.running() >= 1  # one at a time
    assert [a.revision for a in world.of()] == [2, 2]
    assert state(world) is EndpointState.SERVING


def test_without_requests_old_workers_just_go(world: World) -> None:
    world.put(make_record(workers={"idle_timeout_s": 1000}))
    world.settle()
    world.arrive(1)
    world.run(20)
    assert world.running() == 1
    world.change(revision=2)
    world.run(3)
    assert world.of() == []
    assert state(world) is EndpointState.SERVING


def test_a_revision_that_cannot_start_leaves_the_old_one_serving(world: World) -> None:
    world.put(make_record(workers={"min": 1, "max": 1}))
    world.run(6)
    world.fails = lambda a: "exited with exit code 1" if a.revision == 2 else None
    world.change(revision=2)
    world.run(120)
    assert world.running() == 1
    status = world.statuses["ep-1"]
    assert (status.state, status.exit_code) == (EndpointState.UPDATING, 1)
    world.change(revision=3)
    world.run(10)
    assert [a.revision for a in world.of()] == [3]
    status = world.statuses["ep-1"]
    assert (status.state, status.reason, status.exit_code) == (EndpointState.SERVING, None, None)


def test_another_revision_in_the_middle_of_an_update(world: World) -> None:
    """All that run are old and one more than `max`: one must go before a new one can come."""
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(6)
    world.change(revision=2)
    world.tick()
    world.change(revision=3)
    world.run(60)
    assert [a.revision for a in world.of()] == [3, 3]


# ---- failures


def test_failed_starts_back_off_and_say_why(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.fails = lambda _: "exited with exit code 1 before it was healthy"
    world.run(300)
    gaps = [round(b - a, 1) for (a, _), (b, _) in pairwise(world.starts)]
    assert gaps[:8] == [6, 7, 9, 13, 21, 37, 65, 65]  # 5 s to fail, and 1, 2, 4, … s of pause
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.FAILED, EndpointReason.CRASH_BACKOFF)
    assert status.message == "exited with exit code 1 before it was healthy"
    assert (status.exit_code, status.log_tail) == (1, ("boom",))
    assert status.retry_at is not None
    assert status.retry_at > world.utc
    world.fails = lambda _: None
    world.run(80)
    status = world.statuses["ep-1"]
    assert (status.state, status.reason, status.message) == (EndpointState.SERVING, None, None)


def test_an_endpoint_at_zero_is_tried_again_by_the_next_request(world: World) -> None:
    """It must not stay failed for ever just because nobody waits any more."""
    world.put(make_record())
    world.settle()
    world.fails = lambda _: "exited"
    world.arrive(1)
    world.run(5.5)
    assert state(world) is EndpointState.FAILED
    world.requests["ep-1"].waiting.clear()  # the router answered 503
    world.run(2)
    assert state(world) is EndpointState.SERVING
    world.fails = lambda _: None
    world.arrive(1)
    world.run(6)
    assert world.requests["ep-1"].waits == [5.5]  # and the first tick


def test_after_a_failed_start_one_worker_is_tried_at_a_time(world: World) -> None:
    world.put(make_record(workers={"min": 4, "max": 4}))
    world.fails = lambda _: "exited"
    world.run(6)
    assert len(world.starts) == 4
    world.run(60)
    times = [at for at, _ in world.starts[4:]]
    assert len(set(times)) == len(times)


def test_a_new_leader_keeps_to_the_pause(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.fails = lambda _: "exited"
    world.run(50)
    assert state(world) is EndpointState.FAILED
    n_before = len(world.starts)
    world.replace_leader()
    assert not world.tick()
    world.run(3)
    assert len(world.starts) == n_before


def test_a_worker_that_dies_is_replaced_at_once(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(30)
    world.kill(world.of()[0].worker_id)
    plan = world.tick()
    assert len(plan.creates) == 1
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.SERVING, EndpointReason.STARTING)
    assert status.exit_code == 1
    world.run(20)
    assert world.statuses["ep-1"].exit_code is None


def test_a_worker_that_its_node_never_mentions_has_failed(world: World) -> None:
    world.put(make_record(workers={"min": 1, "start_timeout_s": 20}))
    world._run_agents = lambda: None  # type: ignore[method-assign]
    world.run(49)
    assert state(world) is EndpointState.DEPLOYING
    world.run(3)
    status = world.statuses["ep-1"]
    assert status.message == "node node-a said nothing of worker wk-0001 for 50 s"


# ---- capacity


def test_no_capacity_says_why_and_ends(world: World) -> None:
    world.put(make_record(gpu={"count": 3}, workers={"min": 1}))
    world.tick()
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.DEPLOYING, EndpointReason.NO_CAPACITY)
    assert status.message == (
        "no capacity: 2 nodes have fewer than 3 GPUs of one product; lower gpu.count"
    )
    world.join(make_node("node-c", n_gpus=4))
    world.run(6)
    status = world.statuses["ep-1"]
    assert (status.state, status.reason) == (EndpointState.SERVING, None)


def test_before_the_view_has_settled_a_lack_proves_nothing() -> None:
    world = World()
    world.settled = False
    world.put(make_record(workers={"min": 1}))
    world.tick()
    assert world.statuses["ep-1"].reason is EndpointReason.STARTING
    world.settled = True
    world.tick()
    assert (world.statuses["ep-1"].message or "").startswith("no capacity: no nodes joined;")
    world.settled = False  # nats-server restarted: the reason stays until there is news
    world.tick()
    assert (world.statuses["ep-1"].message or "").startswith("no capacity: no nodes joined;")


def test_an_idle_worker_gives_way_to_an_endpoint_that_waits(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    world.put(make_record("ep-1", workers={"idle_timeout_s": 1000}))
    world.put(make_record("ep-2", workers={"idle_timeout_s": 1000}))
    world.arrive(1, "ep-1")
    world.run(30)
    world.arrive(1, "ep-2")
    world.run(8)
    assert world.running("ep-1") == 0
    assert world.requests["ep-2"].waits == [pytest.approx(5.5, abs=1.0)]


def two_endpoints_one_gpu(world: World, *, first: int, second: int) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    workers: dict[str, object] = {"idle_timeout_s": 1000}
    world.put(make_record("ep-1", workers=workers, placement={"priority": first}))
    world.put(make_record("ep-2", workers=workers, placement={"priority": second}))


def test_a_worker_stays_a_while_before_it_gives_way_to_an_equal(world: World) -> None:
    two_endpoints_one_gpu(world, first=50, second=50)
    world.arrive(1, "ep-1")
    world.run(8)  # running since 5.5
    world.arrive(1, "ep-2")
    world.run(12)
    assert world.running("ep-1") == 1
    world.run(8)
    assert world.running("ep-2") == 1


def test_it_gives_way_at_once_to_a_higher_priority_and_never_to_a_lower_one(world: World) -> None:
    two_endpoints_one_gpu(world, first=50, second=60)
    world.arrive(1, "ep-1")
    world.run(8)
    world.arrive(1, "ep-2")
    world.run(7)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)
    world.arrive(1, "ep-1")
    world.run(60)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)
    assert world.statuses["ep-1"].reason is EndpointReason.NO_CAPACITY


def test_the_last_gpu_goes_to_the_higher_priority_although_the_other_waits_longer(
    world: World,
) -> None:
    two_endpoints_one_gpu(world, first=10, second=90)
    nodes, world.nodes = world.nodes, {}
    world.arrive(1, "ep-1")
    world.run(5)
    world.arrive(1, "ep-2")
    world.nodes = nodes
    world.run(6)
    assert (world.running("ep-1"), world.running("ep-2")) == (0, 1)


def test_a_worker_within_min_gives_way_to_nobody(world: World) -> None:
    world.nodes = {"node-a": make_node("node-a", n_gpus=1)}
    world.put(make_record("ep-1", workers={"min": 1}))
    world.run(10)
    world.put(make_record("ep-2"))
    world.arrive(1, "ep-2")
    world.run(30)
    assert world.running("ep-1") == 1
    assert world.statuses["ep-2"].reason is EndpointReason.NO_CAPACITY


# ---- nodes and routers


def test_workers_of_a_lost_node_are_replaced(world: World) -> None:
    world.put(make_record(workers={"min": 2}))
    world.run(6)
    lost = world.of()[0].node_id
    world.lost_nodes = frozenset({lost})
    plan = world.tick()
    assert len(plan.deletes) == len(plan.creates) == 1
    assert all(a.node_id != lost for a in world.of())
    assert events(world, NODE_LOST) == [NodeLost(node_id=lost, workers=1)]
    world.run(10)
    assert len(events(world, NODE_LOST)) == 1


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
    run_agents, world._run_agents = world._run_agents, lambda: None  # type: ignore[method-assign]
    world.lost_nodes = frozenset()
    world.tick()
    assert [a.node_id for a in world.of()] == ["node-b"]  # its status still says running
    world._run_agents = run_agents  # type: ignore[method-assign]
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


# ---- why


def test_each_decision_is_kept_with_what_it_was_made_on(world: World) -> None:
    world.put(make_record(workers={"idle_timeout_s": 10}))
    world.settle()
    world.arrive(1)
    world.run(40)
    decisions = world.histories["ep-1"].decisions
    assert [(d.before, d.after) for d in reversed(decisions)] == [(0, 1), (1, 0)]
    first = decisions[-1]
    assert first.why == "0 → 1: 1 waiting, oldest 0.5 s, none running"
    assert first.inputs is not None
    assert (first.inputs.waiting, first.inputs.policy, first.inputs.least) == (1, "queue_delay", 0)
    told = [dict(event) for event in events(world, SCALE_DECIDED)]
    assert told == [{**dict(d), "endpoint_id": "ep-1"} for d in reversed(decisions)]


def test_no_more_than_fifty_decisions_are_kept(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    for n in range(60):
        world.change(paused=n % 2 == 1)
        world.settle()
    decisions = world.histories["ep-1"].decisions
    assert len(decisions) == 50
    assert [d.after for d in decisions[:4]] == [0, 1, 0, 1]
    assert decisions[0].why == "the endpoint is paused"


def test_decisions_go_with_their_endpoint(world: World) -> None:
    world.put(make_record(workers={"min": 1}))
    world.run(10)
    world.change(deleted_at=EPOCH)
    world.run(20)
    assert world.histories["ep-1"].decisions[0].inputs is None
    del world.endpoints["ep-1"]
    world.settle()
    assert not world.histories


def test_a_schedule_raises_min_while_its_window_is_open(world: World) -> None:
    window = {"start": "00:10", "end": "00:21", "min": 2}  # the world begins at midnight
    world.put(make_record(workers={"idle_timeout_s": 5}, scaling={"schedule": [window]}))
    counts = []
    for _ in range(4):
        world.run(400, dt=4)  # 00:06:40, 00:13:20, 00:20:00, 00:26:40
        counts.append(world.running())
    assert counts == [0, 2, 2, 0]
    assert "the schedule asks for 2" in world.histories["ep-1"].decisions[-1].why


def test_after_a_burst_workers_go_that_the_rest_of_the_load_does_not_need() -> None:
    """Requests are spread over all of them, so that none is idle for the timeout."""
    world = World(start_s=2, service_s=1)
    world.join(make_node(n_gpus=8))
    world.put(make_record(workers={"max": 8, "idle_timeout_s": 30}, scaling={"value": 1}))
    world.spread = True
    world.settle()
    world.arrive(60)
    world.run(20)
    assert world.running() == 8
    world.run(120, rate=1)
    assert world.running() <= 3
