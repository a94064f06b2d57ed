"""Slots that other routers lent to this one: in use, or kept for the next request.

Theory of operation (the lender's side is `lending.py`). A loan is one slot under one lease. It is
in use by one request, or idle. When its request ends it is kept if its driver allowed that and has
not recalled it since, and goes back otherwise; an idle one goes back after `keep_s`. So a router
with steady traffic asks for a slot once, and not for each request.

A loan that is gone is forgotten at once; the driver learns it from the release, or from the next
list of what is held.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from typing_extensions import override

from penstock_router.catalogue import Address


@dataclass(slots=True, eq=False)  # one object a lease
class Loan:
    """One slot of another router's worker."""

    lease_id: str
    endpoint_id: str
    worker_id: str
    address: Address
    #: who counts the slot; changes when the worker gets another driver
    driver_id: str
    #: the driver's epoch at the worker
    epoch: int
    #: seconds for which it may stay idle; 0 = it goes back when its request ends
    keep_s: float
    n_requests: int = 0
    #: drivers that counted it before, and may not know yet that they do no more
    former: tuple[str, ...] = ()
    #: None = a request uses it
    idle_since: float | None = None


class Loans:
    """The slots that this router has borrowed."""

    def __init__(self) -> None:
        self._loans: dict[str, Loan] = {}
        self._idle: dict[str, list[Loan]] = {}  # endpoint → the one used last is the last
        self._recalled: dict[tuple[str, str, str | None], float] = {}
        #: their drivers may take this router for dead: none is used for another request
        self.suspended = False

    @override
    def __repr__(self) -> str:
        n_idle = sum(map(len, self._idle.values()))
        return f"<Loans {len(self._loans) - n_idle} in use, {n_idle} idle>"

    def __len__(self) -> int:
        return len(self._loans)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._loans

    def add(self, loan: Loan) -> None:
        """A new loan, idle or in use."""
        self._loans[loan.lease_id] = loan
        if loan.idle_since is not None:
            self._idle.setdefault(loan.endpoint_id, []).append(loan)

    def idle(self, endpoint_id: str) -> int:
        """Idle slots of this endpoint that may be used."""
        return 0 if self.suspended else len(self._idle.get(endpoint_id, ()))

    def try_take(self, endpoint_id: str, *, avoid: Collection[str] = ()) -> Loan | None:
        """An idle slot for a request, the one used last; None when there is none."""
        idle = self._idle.get(endpoint_id)
        if not idle or self.suspended:
            return None
        if not avoid:
            loan = idle.pop()
        else:
            fit = next((x for x in reversed(idle) if x.worker_id not in avoid), None)
            if fit is None:
                return None
            loan = fit
            idle.remove(loan)
        loan.idle_since = None
        return loan

    def end(self, loan: Loan, *, keep: bool, now: float) -> bool:
        """A request is through with its slot.

        Args:
            loan: its loan; one that is not there any more changes nothing.
            keep: whether the worker is fit for another request.
            now: monotonic seconds.

        Returns:
            True when the slot goes back to its driver (and is forgotten); False when it is idle now.
        """
        if self._loans.get(loan.lease_id) is not loan:
            return False
        if keep and loan.keep_s > 0 and not self.suspended and not self._is_recalled(loan, now):
            loan.idle_since = now
            self._idle.setdefault(loan.endpoint_id, []).append(loan)
            return False
        self.forget((loan,))
        return True

    def recall(
        self, driver_id: str, endpoint_id: str, worker_id: str | None, *, until: float
    ) -> tuple[Loan, ...]:
        """A driver wants its slots: gives (and forgets) the idle ones; no other is kept `until`."""
        self._recalled[driver_id, endpoint_id, worker_id] = until
        return self.forget(
            loan
            for loan in self._idle.get(endpoint_id, ())
            if loan.driver_id == driver_id and worker_id in (None, loan.worker_id)
        )

    def expired(self, *, now: float) -> tuple[Loan, ...]:
        """Gives (and forgets) the slots that were idle for too long."""
        for key, until in tuple(self._recalled.items()):
            if until <= now:
                del self._recalled[key]
        return self.forget(
            loan
            for idle in self._idle.values()
            for loan in idle
            if loan.idle_since is not None and now - loan.idle_since >= loan.keep_s
        )

    def idle_at(self, endpoint_id: str, worker_ids: Collection[str]) -> tuple[Loan, ...]:
        """Idle slots of these workers."""
        idle = self._idle.get(endpoint_id, ())
        return tuple(loan for loan in idle if loan.worker_id in worker_ids)

    def of_worker(self, worker_id: str) -> tuple[Loan, ...]:
        """Every loan of this worker's slots."""
        return tuple(loan for loan in self._loans.values() if loan.worker_id == worker_id)

    def held(self) -> dict[str, list[str]]:
        """Leases by driver, former ones too: to them a lease that is missing is a free slot."""
        held: dict[str, list[str]] = {}
        for loan in self._loans.values():
            for driver_id in (loan.driver_id, *loan.former):
                held.setdefault(driver_id, []).append(loan.lease_id)
        return held

    @staticmethod
    def move(loan: Loan, driver_id: str, epoch: int) -> None:
        """Another router counts this slot from now on; it is not kept beyond its request."""
        if loan.driver_id != driver_id and loan.driver_id not in loan.former:
            loan.former = (*loan.former, loan.driver_id)
        loan.driver_id, loan.epoch, loan.keep_s = driver_id, epoch, 0.0

    def forget(self, loans: Iterable[Loan]) -> tuple[Loan, ...]:
        """These are gone."""
        gone = tuple(loans)
        for loan in gone:
            self._loans.pop(loan.lease_id, None)
            if loan.idle_since is not None:
                idle = self._idle[loan.endpoint_id]
                idle.remove(loan)
                if not idle:
                    del self._idle[loan.endpoint_id]
                loan.idle_since = None
        return gone

    def _is_recalled(self, loan: Loan, now: float) -> bool:
        if not self._recalled:
            return False
        driver_id, endpoint_id = loan.driver_id, loan.endpoint_id
        return (
            self._recalled.get((driver_id, endpoint_id, None), now) > now
            or self._recalled.get((driver_id, endpoint_id, loan.worker_id), now) > now
        )
