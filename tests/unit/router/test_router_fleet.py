"""Slots, queue and hand-over of several routers, under faults: never one request too many.

The machine lets messages be late and lost, tables be stale, routers die, come back under their name
and get workers of one another, in any order that hypothesis finds.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_common.states import TicketOutcome
from tests.fakes.router_fleet import ENDPOINT, Fleet, SimRouter

ROUTERS = ("rt-a", "rt-b", "rt-c")
WORKERS = ("wk-1", "wk-2")
ENDED = (
    TicketOutcome.DISPATCHED,
    TicketOutcome.CANCELLED,
    TicketOutcome.EVICTED,
    TicketOutcome.REJECTED,
)
pick = st.integers(0, 50)
#: never runs: it only makes the futures that waiting clients are answered by
LOOP = asyncio.new_event_loop()


@pytest.fixture(autouse=True, scope="module")
def _close_the_loop() -> Iterator[None]:
    yield
    LOOP.close()


class FleetMachine(RuleBasedStateMachine):
    """Up to three routers before two workers."""

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self.everything_comes_to_rest()

    @initialize(n_slots=st.integers(1, 6), n_routers=st.integers(1, 3))
    def begin(self, n_slots: int, n_routers: int) -> None:
        self.fleet = Fleet(n_slots, LOOP)
        for router_id in ROUTERS[:n_routers]:
            self.fleet.start(router_id)
        for n, worker_id in enumerate(WORKERS):
            self.fleet.drive(worker_id, ROUTERS[n % n_routers])
        self.fleet.settle(2)

    def _one(self, n: int) -> SimRouter | None:
        living = self.fleet.living()
        return living[n % len(living)] if living else None

    # ---- clients

    @rule(n=pick, count=st.integers(1, 4))
    def arrive(self, n: int, count: int) -> None:
        router = self._one(n)
        for _ in range(count if router else 0):
            assert router is not None
            router.arrive()

    @rule(n=pick, which=pick, outcome=st.sampled_from(["ok", "error", "cancelled"]))
    def finish(self, n: int, which: int, outcome: Any) -> None:
        router = self._one(n)
        if router is not None:
            router.finish(which, outcome)

    @rule(n=pick, which=pick)
    def leave(self, n: int, which: int) -> None:
        router = self._one(n)
        if router is not None:
            router.leave(which)

    # ---- the network

    @rule(sender=st.sampled_from(ROUTERS), receiver=st.sampled_from(ROUTERS))
    def deliver(self, sender: str, receiver: str) -> None:
        self.fleet.deliver(sender, receiver)

    @rule()
    def deliver_all(self) -> None:
        self.fleet.deliver_all()

    @rule(sender=st.sampled_from(ROUTERS), receiver=st.sampled_from(ROUTERS))
    def drop(self, sender: str, receiver: str) -> None:
        self.fleet.drop(sender, receiver)

    @rule(n=pick)
    def hand_out(self, n: int) -> None:
        router = self._one(n)
        if router is not None:
            self.fleet.hand_out(router)

    @rule(n=pick)
    def learn(self, n: int) -> None:
        router = self._one(n)
        if router is not None:
            router.sync()

    @rule(seconds=st.sampled_from([0.3, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.fleet.clock.advance(seconds)
        for router in self.fleet.living():
            router.tick()

    # ---- routers and workers

    @rule(n=pick)
    def kill_one(self, n: int) -> None:
        router = self._one(n)
        if router is not None and len(self.fleet.living()) > 1:
            self.fleet.kill(router.router_id)

    @rule(router_id=st.sampled_from(ROUTERS))
    def lose(self, router_id: str) -> None:
        router = self.fleet.routers.get(router_id)
        if router is not None and not router.alive:
            self.fleet.lose(router_id)

    @rule(router_id=st.sampled_from(ROUTERS))
    def start(self, router_id: str) -> None:
        """A new one, or one that died under its old name."""
        router = self.fleet.routers.get(router_id)
        if router is None or not router.alive:
            self.fleet.start(router_id)

    @rule(worker_id=st.sampled_from(WORKERS), n=pick)
    def move(self, worker_id: str, n: int) -> None:
        router = self._one(n)
        if router is not None:
            self.fleet.drive(worker_id, router.router_id)

    # ---- what holds

    @invariant()
    def no_worker_has_more_than_its_slots(self) -> None:
        if not hasattr(self, "fleet"):
            return
        for worker_id in WORKERS:
            assert self.fleet.in_flight(worker_id) <= self.fleet.n_slots, worker_id

    def everything_comes_to_rest(self) -> None:
        fleet = self.fleet
        for router_id, router in fleet.routers.items():
            if not router.alive and router_id not in fleet.lost:
                fleet.lose(router_id)
        fleet.settle(20)
        # Nobody waits while a slot is free.
        waiting = sum(len(router.waiters) for router in fleet.living())
        used = sum(fleet.in_flight(worker_id) for worker_id in WORKERS)
        assert not waiting or used == fleet.n_slots * len(WORKERS), (waiting, used)
        for _ in range(200):
            if not any(router.active or router.waiters for router in fleet.living()):
                break
            for router in fleet.living():
                while router.active:
                    router.finish(0)
            fleet.settle(4)
        fleet.settle(8)
        self._at_rest()

    def _at_rest(self) -> None:
        """No slot leaked, nobody forgotten, every ticket ended once."""
        for router in self.fleet.living():
            assert not router.active
            assert not router.waiters
            assert not len(router.lender)
            assert not len(router.loans)
            mine = [w for w, a in self.fleet.assignments.items() if a.driver == router.router_id]
            lane = router.dispatcher.lanes.get(ENDPOINT)
            if lane is None:
                assert not mine
                continue
            assert not lane.slots.in_flight
            assert not len(lane.waiting)
            assert lane.slots.free == self.fleet.n_slots * len(mine), router.router_id
        assert not self.fleet.stream
        assert not self.fleet.unsettled


FleetMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestFleetMachine = FleetMachine.TestCase


@pytest.mark.parametrize("seed", range(40))
def test_a_long_random_walk_never_overfills_a_worker_and_comes_to_rest(seed: int) -> None:
    """What the machine above finds in short runs, in long and busy ones."""
    rng = random.Random(seed)
    machine = FleetMachine()
    machine.begin(n_slots=rng.choice((1, 2, 3, 8)), n_routers=rng.choice((2, 3)))
    steps: dict[Callable[[], None], int] = {
        lambda: machine.arrive(rng.randrange(9), rng.randint(1, 4)): 12,
        lambda: machine.finish(rng.randrange(9), rng.randrange(9), "ok"): 20,
        lambda: machine.leave(rng.randrange(9), rng.randrange(9)): 1,
        lambda: machine.deliver(rng.choice(ROUTERS), rng.choice(ROUTERS)): 40,
        machine.deliver_all: 3,
        lambda: machine.drop(rng.choice(ROUTERS), rng.choice(ROUTERS)): 2,
        lambda: machine.hand_out(rng.randrange(9)): 20,
        lambda: machine.learn(rng.randrange(9)): 4,
        lambda: machine.time_passes(rng.choice((0.3, 1.0))): 4,
        lambda: machine.move(rng.choice(WORKERS), rng.randrange(9)): rng.choice((0, 2)),
        lambda: machine.kill_one(rng.randrange(9)): 1,
        lambda: machine.lose(rng.choice(ROUTERS)): 1,
        lambda: machine.start(rng.choice(ROUTERS)): 2,
    }
    for step in rng.choices(tuple(steps), tuple(steps.values()), k=800):
        step()
        machine.no_worker_has_more_than_its_slots()
    machine.teardown()
