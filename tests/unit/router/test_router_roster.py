"""What the tables say of an endpoint decides who is served, who waits, who is told why not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from penstock_common.messages import EndpointStatus
from penstock_common.states import EndpointReason, EndpointState
from penstock_router.admission import Refusal
from tests.fakes.router_fleet import ENDPOINT, Fleet, SimRouter


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    loop = asyncio.new_event_loop()
    yield Fleet(2, loop)
    loop.close()


def told(router: SimRouter, **fields: Any) -> None:
    """The scheduler says this of the endpoint."""
    status = EndpointStatus.model_validate(
        {
            "endpoint_id": ENDPOINT,
            "state": EndpointState.SERVING,
            "revision": 1,
            "fencing_token": 1,
            "updated_at": router.fleet.clock.utc(),
            **fields,
        }
    )
    router.catalogue.put_status(ENDPOINT, status)
    router.roster.refresh(ENDPOINT)


def refusals(router: SimRouter) -> list[Refusal]:
    given = [waiter.given for waiter in router.waiters]
    return [each for each in given if isinstance(each, Refusal)]


def test_what_no_node_has_a_place_for_is_refused_after_a_while_with_that_reason(
    fleet: Fleet,
) -> None:
    router = fleet.start("rt-1")
    router.arrive()
    told(router, reason=EndpointReason.NO_CAPACITY, message="2 nodes lack free GPUs")
    fleet.clock.advance(3.0)
    router.arrive()
    router.roster.tick(fleet.clock.monotonic())
    assert not refusals(router)
    fleet.clock.advance(2.0)  # the first has waited for five seconds, the second for two
    router.roster.tick(fleet.clock.monotonic())
    (refusal,) = refusals(router)
    assert (refusal.status, refusal.reason) == (503, "no_capacity")
    assert refusal.detail == "2 nodes lack free GPUs"
    assert refusal.retry_after_s is not None


@pytest.mark.parametrize("workers", ["workers_starting", "workers_draining"])
def test_who_waits_for_a_worker_that_comes_is_not_refused_for_want_of_another(
    fleet: Fleet, workers: str
) -> None:
    router = fleet.start("rt-1")
    router.arrive()
    told(router, reason=EndpointReason.NO_CAPACITY, **{workers: 1})
    fleet.clock.advance(60.0)
    router.roster.tick(fleet.clock.monotonic())
    assert not refusals(router)
    told(router, reason=EndpointReason.NO_CAPACITY)
    router.roster.tick(fleet.clock.monotonic())
    assert [refusal.reason for refusal in refusals(router)] == ["no_capacity"]


def test_a_place_that_comes_free_in_time_refuses_nobody(fleet: Fleet) -> None:
    router = fleet.start("rt-1")
    router.arrive()
    told(router, reason=EndpointReason.NO_CAPACITY)
    fleet.clock.advance(4.0)
    fleet.drive("wk-1", "rt-1")
    router.sync()
    fleet.clock.advance(4.0)
    router.roster.tick(fleet.clock.monotonic())
    router.collect()
    assert (len(router.active), router.refused) == (1, 0)


def test_a_fenced_router_gives_out_no_slot_and_goes_on_when_it_is_over(fleet: Fleet) -> None:
    router = fleet.start("rt-1")
    fleet.drive("wk-1", "rt-1")
    router.sync()
    router.arrive()
    router.roster.fenced = True
    router.roster.tick(fleet.clock.monotonic())
    router.arrive()
    assert (len(router.active), len(router.waiters)) == (1, 1)
    router.roster.fenced = False
    router.roster.tick(fleet.clock.monotonic())
    router.collect()
    assert len(router.active) == 2


def test_while_one_router_drives_all_its_tickets_stay_with_it(fleet: Fleet) -> None:
    one, two = fleet.start("rt-1"), fleet.start("rt-2")
    fleet.drive("wk-1", "rt-1")
    for router in (one, two):
        router.sync()
    for _ in range(4):
        one.arrive()
    assert (len(one.active), len(one.waiters), len(fleet.stream)) == (2, 2, 0)
    # The second router gets a worker: now it may serve them, in their order.
    fleet.drive("wk-2", "rt-2")
    one.sync()
    assert len(fleet.stream) == 2
    two.sync()
    fleet.settle(2)
    assert (len(one.active), len(one.waiters)) == (4, 0)
    assert fleet.in_flight("wk-2") == 2


def test_of_own_and_other_clients_the_one_that_came_first_is_served_first(fleet: Fleet) -> None:
    one, two = fleet.start("rt-1"), fleet.start("rt-2")
    fleet.drive("wk-1", "rt-1")
    for router in (one, two):
        router.sync()
    for _ in range(2):
        one.arrive()
    for router in (two, one, two):
        fleet.clock.advance(0.01)
        router.arrive()
    while fleet.hand_out(one):
        pass
    order = []
    for _ in range(3):
        one.finish(0)
        fleet.deliver_all()
        for router in (one, two):
            router.collect()
        order.append((len(one.active), len(two.active)))
    assert order == [(1, 1), (1, 1), (0, 2)]


def test_a_refusal_after_waiting_tells_the_place_in_the_queue(fleet: Fleet) -> None:
    router = fleet.start("rt-1")
    for _ in range(3):
        router.arrive()
    router.dispatcher.time_out(router.waiters[1], fleet.record)
    (refusal,) = refusals(router)
    assert (refusal.position, refusal.queue_length) == (2, 3)
