"""The slot protocol between routers."""

from typing import Literal

from penstock_common.messages.base import Message


class LentSlot(Message):
    """One slot of a worker, lent under a lease."""

    lease_id: str
    worker_id: str
    host: str
    port: int
    #: the driver's epoch at this worker
    epoch: int


class Grant(Message):
    """A driver offers another router slots: for a ticket of it, or ahead of need.

    Subject `router.<id>.grant`; the answer is a `GrantReply` on the message's reply subject.
    """

    driver_id: str
    #: names this run of the driver's process
    boot_id: str
    #: counts this run's offers to that router, from 1; one that was overtaken is void
    number: int
    endpoint_id: str
    #: the first slot is for this ticket; null = all are lent ahead
    ticket_id: str | None
    slots: tuple[LentSlot, ...]
    #: seconds for which an unused slot may be kept for further requests; 0 = it goes back when its
    #: request ends
    keep_s: float = 0.0


class GrantReply(Message):
    """Which of the offered slots the other router holds now; the others are free."""

    router_id: str
    #: names this run of the answering router's process; what another run held is free
    holder_boot_id: str
    lease_ids: tuple[str, ...]
    #: whether the ticket still waits, since its slot was not one that could be taken
    waits: bool = False


class Release(Message):
    """A lent slot is free again. Subject `router.<id>.release`. Safe to repeat."""

    lease_id: str
    endpoint_id: str
    worker_id: str
    #: how the last request ended
    outcome: Literal["ok", "error", "connect_failed", "cancelled"]
    #: requests that the slot served while it was lent
    n_requests: int = 1


class Recall(Message):
    """Clients wait at a driver: what it lent goes back as soon as no request uses it.

    Subject `router.<id>.recall`. Repeated while it holds; after `hold_s` without one, slots may be
    kept again. It is answered by lists of what is held (`HeldLeases`); with `hold_s` 0 those are
    all that is wanted.
    """

    driver_id: str
    endpoint_id: str
    #: null = slots of every worker of the endpoint
    worker_id: str | None = None
    hold_s: float


class HeldLeases(Message):
    """Every lease that this router holds of one driver, sent once a second.

    Subject `router.<id>.leases`.
    """

    router_id: str
    holder_boot_id: str
    lease_ids: tuple[str, ...]
    #: the run of the driver's process whose offers are numbered
    boot_id: str | None = None
    #: the highest number of an offer of that run that has come; one below it that comes later is
    #: refused, so what such an offer brought and is not in the list is over
    number: int = 0


class Claim(Message):
    """A router begins to drive a worker and asks who holds slots of it.

    Subject `router.<id>.claim`. Whoever gets it takes no slot of an earlier epoch any more, and
    answers with a `Tally`. Safe to repeat.
    """

    driver_id: str
    boot_id: str
    endpoint_id: str
    worker_id: str
    epoch: int


class Tally(Message):
    """What a router holds of a worker, as an answer to a `Claim`. Subject `router.<id>.tally`."""

    router_id: str
    holder_boot_id: str
    worker_id: str
    epoch: int
    lease_ids: tuple[str, ...]
    #: routers to which it lent slots while it was the worker's driver
    lent_to: tuple[str, ...] = ()
