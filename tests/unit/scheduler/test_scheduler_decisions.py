"""Each decision of the autoscaler is kept, with its inputs and why."""

import pytest

from penstock_common.events.catalogue import SCALE_DECIDED
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

pytestmark = pytest.mark.usefixtures("both_ways")


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
    told = [dict(event) for event in world.data_of(SCALE_DECIDED)]
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
