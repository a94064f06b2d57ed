"""Several routers without NATS: the real slot protocol over a network that a test delivers by hand.

Messages between two routers keep their order, as NATS keeps it, and may be late or lost. Tickets
lie in one stream. A router can be killed, declared lost, started again under its name; workers are
moved from driver to driver, and each router learns of that when the test lets it.
"""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock_common import subjects
from penstock_common.messages import (
    Claim,
    EndpointRecord,
    HeldLeases,
    Message,
    Recall,
    Release,
    Tally,
    Ticket,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_common.nats.pull_loop import Delivered
from penstock_common.nats.wire import Received
from penstock_common.specs import parse_endpoint
from penstock_common.states import WorkerState
from penstock_router.admission import Refusal
from penstock_router.background import Background
from penstock_router.catalogue import Catalogue
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import LeaseOutcome, SlotLease, Waiter
from penstock_router.loans import Loan, Loans
from penstock_router.picker import pick_least_busy
from penstock_router.roster import Roster
from penstock_router.slot_protocol.borrower import Borrower
from penstock_router.slot_protocol.claims import Reigns
from penstock_router.slot_protocol.driver import Driver
from penstock_router.slot_protocol.handover import Handover
from penstock_router.slot_protocol.lender import Lender
from tests.fakes.clock import ManualClock

ENDPOINT = "ep-sim"


@dataclass
class _Letter:
    subject: str
    data: bytes
    reply: str


class FakeWire:
    """A router's side of the network; same promises as `wire.Wire`."""

    def __init__(self, fleet: "Fleet", router_id: str) -> None:
        self._fleet = fleet
        self._router_id = router_id
        self.connected = True
        self.handlers: dict[str, Callable[[Received], None]] = {}

    def tell(self, subject: str, message: Message, *, reply: str = "") -> None:
        self._fleet.send(self._router_id, subject, message.encode(), reply)

    def listen(self, subject: str, kind: type[Message], handler: Callable[[Any], None]) -> None:
        self.handlers[subject] = lambda received: handler(kind.decode(received.data))


class FakePull:
    """Settles what the fake stream delivered."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet
        self.asked = 1

    def ack(self, message: Delivered) -> None:
        self._fleet.unsettled.pop(message.ack_subject, None)

    def nak(self, message: Delivered) -> None:
        data = self._fleet.unsettled.pop(message.ack_subject, None)
        if data is not None:
            self._fleet.stream.appendleft(data)

    def term(self, message: Delivered) -> None:
        self.ack(message)

    def in_progress(self, message: Delivered) -> None:
        pass

    def poke(self) -> None:
        pass


class SimRouter:
    """One router's parts, wired as `app.Router` wires them."""

    def __init__(self, fleet: "Fleet", router_id: str, boot_id: str) -> None:
        self.fleet = fleet
        self.router_id = router_id
        self.alive = True
        self.active: list[SlotLease] = []
        self.waiters: list[Waiter] = []
        self.refused = 0
        self.catalogue = Catalogue()
        self.loans = Loans()
        self.wire = FakeWire(fleet, router_id)
        wire: Any = self.wire
        self.dispatcher = Dispatcher(
            router_id=router_id,
            catalogue=self.catalogue,
            policy=pick_least_busy,
            clock=fleet.clock,
            new_id=fleet.new_id,
            events=self,
            loans=self.loans,
            new_answer=fleet.loop.create_future,
        )
        reigns = Reigns()
        self.lender = Lender(
            wire,
            self.dispatcher,
            clock=fleet.clock,
            new_id=fleet.new_id,
            boot_id=boot_id,
            epoch_of=reigns.epoch,
            is_lost=lambda r: r in fleet.lost,
            on_heard=lambda _: None,
            on_connect_failed=lambda *_: None,
        )
        self.borrower = Borrower(
            wire,
            self.dispatcher,
            self.loans,
            reigns,
            catalogue=self.catalogue,
            clock=fleet.clock,
            boot_id=boot_id,
        )
        self.handover = Handover(
            wire,
            self.dispatcher,
            self.lender,
            reigns,
            catalogue=self.catalogue,
            clock=fleet.clock,
            boot_id=boot_id,
            living=lambda: frozenset(r for r in fleet.routers if r not in fleet.lost),
            on_settled=self._on_endpoint,
        )
        self.roster = Roster(
            self.dispatcher,
            self.catalogue,
            clock=fleet.clock,
            events=self,
            ejected=lambda _: False,
            reigns=self.handover.reigns,
            on_other=self.handover.on_other,
            on_closed=self.lender.recall,
            no_capacity_wait_s=5.0,
        )
        bus: Any = self.wire
        self.driver = Driver(bus, self.dispatcher, self.lender, Background())
        pull: Any = FakePull(fleet)
        self.driver._loops[ENDPOINT] = pull
        self._listen()

    def _listen(self) -> None:
        me, handlers = self.router_id, self.wire.handlers
        handlers[subjects.router_grant(me)] = self.borrower.on_grant
        handlers[subjects.router_granted(me, "*")] = self.lender.on_granted
        self.wire.listen(subjects.router_release(me), Release, self.lender.on_release)
        self.wire.listen(subjects.router_leases(me), HeldLeases, self.lender.on_held)
        self.wire.listen(subjects.router_recall(me), Recall, self.borrower.on_recall)
        self.wire.listen(subjects.router_claim(me), Claim, self.handover.on_claim)
        self.wire.listen(subjects.router_tally(me), Tally, self.handover.on_tally)

    # ---- DispatchEvents

    def ticket_waits(self, ticket: Ticket, *, publish: bool) -> None:
        if publish:
            self.fleet.stream.append(ticket.encode())
        self.driver.client_waits(ticket.endpoint_id)

    def slots_freed(self, endpoint_id: str) -> None:
        self.driver.slots_freed(endpoint_id)

    def loan_ended(self, loan: Loan, outcome: LeaseOutcome) -> None:
        self.borrower.give_back(loan, outcome)

    def lane_made(self, endpoint_id: str) -> None:
        self.roster.refresh(endpoint_id)

    def load_changed(self, endpoint_id: str, *, urgent: bool) -> None:
        pass

    def _on_endpoint(self, endpoint_id: str) -> None:
        self.roster.refresh(endpoint_id)
        self.borrower.drop_unfit(endpoint_id)
        self.handover.pursue()

    # ---- what a test does with it

    def sync(self) -> None:
        """Learn what the tables say now."""
        fleet = self.fleet
        self.catalogue.put_endpoint(ENDPOINT, fleet.record)
        for n, (worker_id, assignment) in enumerate(fleet.assignments.items()):
            key = f"node.{worker_id}"
            self.catalogue.put_assignment(key, assignment, assignment.driver_epoch)
            self.catalogue.put_worker_status(key, fleet.status(worker_id, n), 1)
        self._on_endpoint(ENDPOINT)

    def arrive(self) -> None:
        given = self.dispatcher.try_acquire(self.fleet.record)
        if isinstance(given, SlotLease):
            self.active.append(given)
        elif isinstance(given, Waiter):
            self.waiters.append(given)
        else:
            self.refused += 1

    def collect(self) -> None:
        """Clients that waited and were answered begin their requests."""
        for waiter in tuple(self.waiters):
            given = waiter.given
            if given is not None:
                self.waiters.remove(waiter)
                if isinstance(given, SlotLease):
                    self.active.append(given)
                else:
                    assert isinstance(given, Refusal)
                    self.refused += 1

    def finish(self, n: int, outcome: LeaseOutcome = "ok") -> None:
        self.collect()
        if self.active:
            lease = self.active.pop(n % len(self.active))
            self.dispatcher.finish(lease, outcome)
            self.dispatcher.finish(lease, outcome)  # safe to repeat

    def leave(self, n: int) -> None:
        if self.waiters:
            self.dispatcher.leave(self.waiters.pop(n % len(self.waiters)))

    def tick(self) -> None:
        now = self.fleet.clock.monotonic()
        self.handover.tick(now)
        self.roster.tick(now)
        self.driver.tick()
        self.lender.tick(now)
        self.borrower.sweep(now)
        self.borrower.tick()

    def in_flight(self, worker_id: str) -> int:
        """Requests of this router's clients at a worker."""
        lane = self.dispatcher.lanes.get(ENDPOINT)
        if lane is None or not self.alive:
            return 0
        return sum(lease.worker_id == worker_id for lease in lane.leases.values())


@dataclass
class Fleet:
    """Routers, workers, one endpoint, one stream of tickets."""

    n_slots: int
    loop: asyncio.AbstractEventLoop
    clock: ManualClock = field(default_factory=ManualClock)
    routers: dict[str, SimRouter] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    assignments: dict[str, WorkerAssignment] = field(default_factory=dict)
    stream: deque[bytes] = field(default_factory=deque)
    unsettled: dict[str, bytes] = field(default_factory=dict)
    letters: dict[tuple[str, str], deque[_Letter]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def __post_init__(self) -> None:
        self._ids = itertools.count()
        self.record = EndpointRecord(
            endpoint_id=ENDPOINT,
            spec=parse_endpoint(
                {
                    "name": "sim",
                    "app_name": "sim",
                    "image": {"command": "x"},
                    "workers": {"max_concurrency": self.n_slots},
                    "queue": {"max_waiting": 1000, "max_wait_s": 300},
                }
            ),
            revision=1,
            created_at=self.clock.utc(),
            updated_at=self.clock.utc(),
        )

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._ids)}"

    def status(self, worker_id: str, n: int) -> WorkerStatus:
        return WorkerStatus(
            worker_id=worker_id,
            node_id="node",
            endpoint_id=ENDPOINT,
            revision=1,
            state=WorkerState.RUNNING,
            host="127.0.0.1",
            port=9000 + n,
            updated_at=self.clock.utc(),
        )

    def living(self) -> list[SimRouter]:
        return [r for r in self.routers.values() if r.alive]

    # ---- routers

    def start(self, router_id: str) -> SimRouter:
        """A router, which has read its tables when this returns.

        What was sent to its name before reached nobody: NATS keeps nothing for who is not there.
        """
        for sender, receiver in tuple(self.letters):
            while receiver == router_id and self.deliver(sender, receiver):
                pass
        router = SimRouter(self, router_id, self.new_id("boot"))
        self.routers[router_id] = router
        self.lost.discard(router_id)
        router.sync()
        router.handover.started()
        return router

    def kill(self, router_id: str) -> None:
        """A SIGKILL: what it pulled comes again, what it sent may still arrive."""
        router = self.routers[router_id]
        router.alive = False
        mine = [p for b in router.driver._backlogs.values() for p in b]
        mine += [o.pulled for o in router.lender._offers.values() if o.pulled is not None]
        for pulled in mine:
            data = self.unsettled.pop(pulled.message.ack_subject, None)
            if data is not None:
                self.stream.append(data)

    def lose(self, router_id: str) -> None:
        """Its record has expired: its workers get other drivers."""
        self.lost.add(router_id)
        others = sorted(r.router_id for r in self.living())
        for n, (worker_id, assignment) in enumerate(sorted(self.assignments.items())):
            if assignment.driver == router_id and others:
                self.drive(worker_id, others[n % len(others)])

    # ---- workers

    def drive(self, worker_id: str, router_id: str) -> None:
        """As the scheduler: a new worker, or another driver for one."""
        old = self.assignments.get(worker_id)
        if old is not None and old.driver == router_id:
            return
        self.assignments[worker_id] = WorkerAssignment(
            worker_id=worker_id,
            node_id="node",
            endpoint_id=ENDPOINT,
            revision=1,
            spec=self.record.spec,
            driver=router_id,
            driver_epoch=1 if old is None else old.driver_epoch + 1,
            fencing_token=1,
            decided_at=self.clock.utc(),
            assigned_at=self.clock.utc(),
        )

    def in_flight(self, worker_id: str) -> int:
        return sum(router.in_flight(worker_id) for router in self.routers.values())

    # ---- the network

    def send(self, sender: str, subject: str, data: bytes, reply: str) -> None:
        receiver = subject.removeprefix(f"{subjects.PREFIX}.router.").split(".")[0]
        self.letters[sender, receiver].append(_Letter(subject, data, reply))

    def deliver(self, sender: str, receiver: str) -> bool:
        """Hand over the oldest message between two routers; False when there is none."""
        letters = self.letters[sender, receiver]
        if not letters:
            return False
        letter = letters.popleft()
        router = self.routers.get(receiver)
        if router is None or not router.alive:
            if letter.reply:
                status = Received(letter.reply, b"", {"Status": "503"}, "")
                self._hand(self.routers[sender], letter.reply, status)
            return True
        received = Received(letter.subject, letter.data, {}, letter.reply)
        self._hand(router, letter.subject, received)
        return True

    @staticmethod
    def _hand(router: SimRouter, subject: str, received: Received) -> None:
        if not router.alive:
            return
        handler = router.wire.handlers.get(subject)
        if handler is None:
            parent = subject.rpartition(".")[0]
            handler = router.wire.handlers[f"{parent}.*"]
        handler(received)
        router.collect()

    def drop(self, sender: str, receiver: str) -> None:
        """Lose the oldest message between two routers."""
        if self.letters[sender, receiver]:
            self.letters[sender, receiver].popleft()

    def deliver_all(self) -> None:
        while any(self.deliver(*pair) for pair in tuple(self.letters)):
            pass

    def hand_out(self, router: SimRouter) -> bool:
        """One ticket from the stream, if the router wants one."""
        if not self.stream or router.driver._capacity(ENDPOINT) <= 0:
            return False
        data = self.stream.popleft()
        key = self.new_id("ack")
        self.unsettled[key] = data
        message = Delivered("tickets", data, {}, 1, len(self.stream), key, 1, 0)
        pull: Any = router.driver._loops[ENDPOINT]
        router.driver.on_ticket(ENDPOINT, pull, message)
        for each in self.living():
            each.collect()
        return True

    def settle(self, seconds: int = 12) -> None:
        """Let everything that is due happen: messages, tickets, ticks."""
        for _ in range(seconds):
            self.deliver_all()
            for router in self.living():
                router.sync()
            self.deliver_all()
            while any(self.hand_out(router) for router in self.living()):
                self.deliver_all()
            self.clock.advance(1.0)
            for router in self.living():
                router.tick()
                router.collect()
        self.deliver_all()
