"""Starts that fail, and workers that die: what is tried again, when, and what is said of it."""

from itertools import pairwise

import pytest

from penstock_common.states import EndpointReason, EndpointState
from tests.fakes.scheduler_records import make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


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
    assert world.state() is EndpointState.FAILED
    world.requests["ep-1"].waiting.clear()  # the router answered 503
    world.run(2)
    assert world.state() is EndpointState.SERVING
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
    assert world.state() is EndpointState.FAILED
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
    world.silent_agents = True
    world.run(49)
    assert world.state() is EndpointState.DEPLOYING
    world.run(3)
    status = world.statuses["ep-1"]
    assert status.message == "node node-a said nothing of worker wk-0001 for 50 s"
