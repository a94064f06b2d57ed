"""Moments of the slot protocol that the random fleet meets too seldom, played step by step."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.fakes.router_fleet import Fleet, SimRouter


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
