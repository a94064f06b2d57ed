"""Moments of the slot protocol that the random fleet meets too seldom, played step by step."""

import asyncio
from collections.abc import Iterator

import pytest

from penstock_common.states import DesiredState
from penstock_router.reports import make_report
from tests.fakes.router_fleet import ENDPOINT, Fleet, SimRouter


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Never runs: it only makes the futures that waiting clients are answered by."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def two_routers(n_slots: int, loop: asyncio.AbstractEventLoop) -> tuple[Fleet, SimRouter]:
    """`rt-a` drives the only worker, `rt-b` borrows from it; gives the second."""
    fleet = Fleet(n_slots, loop)
    fleet.start("rt-a")
    borrower = fleet.start("rt-b")
    fleet.drive("wk-1", "rt-a")
    fleet.settle(2)
    return fleet, borrower


def test_an_offer_that_was_overtaken_is_void(loop: asyncio.AbstractEventLoop) -> None:
    fleet, borrower = two_routers(2, loop)
    driver = fleet.routers["rt-a"]
    borrower.arrive()
    borrower.arrive()
    assert fleet.hand_out(driver)
    assert fleet.hand_out(driver)
    offers = fleet.letters["rt-a", "rt-b"]
    assert len(offers) == 2
    offers.reverse()
    fleet.deliver("rt-a", "rt-b")  # the second offer comes first
    assert len(borrower.active) == 1
    # The list says: I have seen the second offer, and hold nothing of the first.
    borrower.tick()
    while fleet.deliver("rt-b", "rt-a"):
        pass
    # So its slot was free from then on, and another client has it. Only now comes the first offer.
    driver.arrive()
    assert len(driver.active) == 1
    fleet.deliver_all()
    assert fleet.in_flight("wk-1") == 2, "the slot of the first offer was used twice"
    assert len(borrower.waiters) == 1
    driver.finish(0)
    fleet.settle(3)
    assert not borrower.waiters
    assert fleet.in_flight("wk-1") == 2


def test_a_driver_that_starts_again_asks_what_it_had_lent(
    loop: asyncio.AbstractEventLoop,
) -> None:
    fleet, borrower = two_routers(1, loop)
    borrower.arrive()
    fleet.settle(1)
    assert len(borrower.active) == 1
    fleet.kill("rt-a")
    driver = fleet.start("rt-a")
    driver.arrive()
    assert not driver.active, "the worker's only slot is in use at another router"
    fleet.settle(3)
    assert fleet.in_flight("wk-1") == 1
    borrower.finish(0)
    fleet.settle(3)
    driver.collect()
    assert len(driver.active) == 1


def test_who_takes_a_draining_worker_over_reports_what_the_dead_driver_had_lent(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """So the scheduler does not stop the worker under a request of a third router."""
    fleet, borrower = two_routers(1, loop)
    heir = fleet.start("rt-c")
    borrower.arrive()
    fleet.settle(1)
    assert len(borrower.active) == 1
    fleet.kill("rt-a")
    fleet.lost.add("rt-a")
    fleet.drive("wk-1", "rt-c")
    drains = {"desired": DesiredState.DRAINING}
    fleet.assignments["wk-1"] = fleet.assignments["wk-1"].model_copy(update=drains)

    def told() -> tuple[int, bool, int]:
        lane = heir.dispatcher.lanes[ENDPOINT]
        (load,) = make_report(lane, "rt-c", fleet.clock).workers
        return load.in_flight, load.accepting, load.assignment_revision

    heir.sync()
    lane = heir.dispatcher.lanes[ENDPOINT]
    assert make_report(lane, "rt-c", fleet.clock).workers == (), "nothing before all have told"
    fleet.settle(2)
    assert told() == (1, False, 2)
    borrower.finish(0)
    fleet.settle(2)
    assert told() == (0, False, 2)
