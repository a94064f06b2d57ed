"""Endpoints at rest: those for which time alone changes nothing."""

from penstock_common.messages import EndpointRecord
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World


def world_of(record: EndpointRecord) -> World:
    world = World(start_s=1)
    world.by_parts = True
    world.join(make_node("node-a", n_gpus=2))
    world.put(record)
    world.settle()
    return world


def test_an_endpoint_at_zero_rests_until_somebody_asks() -> None:
    world = world_of(make_record(workers={"idle_timeout_s": 1}))
    assert world.resting() == {"ep-1"}
    world.arrive(1)
    assert world.resting() == set()
    world.run(3)
    assert world.running() == 1
    assert world.resting() == set()
    world.run(20)
    assert not world.of()
    assert world.resting() == {"ep-1"}
    world.put(make_record("ep-2"))
    assert world.resting() == {"ep-1"}  # nobody has decided on the other yet


def test_what_time_alone_changes_does_not_rest() -> None:
    window = {"start": "08:00", "end": "10:00", "min": 1}
    assert world_of(make_record(scaling={"schedule": [window]})).resting() == set()
    world = world_of(make_record(workers={"min": 1}))
    world.nodes.clear()
    world.kill(world.of()[0].worker_id)
    world.settle()
    assert not world.of()
    assert world.resting() == set()  # it is tried again


def test_an_endpoint_whose_start_failed_does_not_rest_until_its_status_is_over() -> None:
    world = world_of(make_record())
    world.fails = lambda _: "exited with exit code 1"
    world.arrive(1)
    while not world.memory.endpoints["ep-1"].backoff.failures:
        world.step(0.5)
        world.tick()
    world.leave(1)
    world.settle()
    assert not world.of()
    assert world.memory.endpoints["ep-1"].desired == 0
    assert world.resting() == set()
    world.now += 100
    assert world.poke("ep-1")  # its status is another now
