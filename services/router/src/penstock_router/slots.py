"""The slots of one endpoint's workers that this router drives: who holds which.

Theory of operation. A slot is the right to have one request in flight at one worker; a lease id
names one holder of one slot. The whole mutable state is `_workers` and `_worker_of`.

Rule 1: a worker never has more leases than slots at the moment one is given out. (Its number of
        slots may be lowered below what is in flight; then it gives out none until enough end.)
Rule 2: a lease is released once; releasing it again, or one never given, changes nothing.
Rule 3: a worker that is taken away keeps its leases until they are released, or until its next
        driver counts them (`drop_worker`).
Rule 4: leases that an earlier driver gave out are counted (`adopt`), beyond the slots if need be.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from penstock_router.picker import Policy, pick_by_affinity
from penstock_router.split import Split


@dataclass(slots=True)
class _Worker:
    worker_id: str
    n_slots: int = 0
    accepting: bool = False
    #: false = taken away, only leases remain
    driven: bool = True
    leases: set[str] = field(default_factory=set)
    #: how many those are
    in_flight: int = 0
    #: when it was first accepting, or its last lease ended; None = never accepting yet
    idle_since: float | None = None
    picked: int = 0
    requests_total: int = 0

    @property
    def free(self) -> int:
        if not (self.driven and self.accepting):
            return 0
        return max(0, self.n_slots - self.in_flight)


class SlotTable:
    """Slots and leases of one endpoint's workers at their driver."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._workers: dict[str, _Worker] = {}
        self._worker_of: dict[str, str] = {}
        self._n_picks = 0
        self.split: Split | None = None
        # Bound once, so that a request pays for a split only where there is one.
        self._find = self._candidates

    @override
    def __repr__(self) -> str:
        return (
            f"<SlotTable {len(self._workers)} workers, {self.in_flight} leases, {self.free} free>"
        )

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._workers

    @property
    def free(self) -> int:
        """Slots that could be given out now."""
        return sum(worker.free for worker in self._workers.values())

    @property
    def in_flight(self) -> int:
        """Leases that are out, at workers taken away too."""
        return len(self._worker_of)

    def put_worker(self, worker_id: str, *, n_slots: int, accepting: bool, now: float) -> int:
        """Add a worker, or change it.

        Args:
            worker_id: whose slots these are.
            n_slots: requests that it takes at once, at least 1.
            accepting: false = give out no slot of it.
            now: monotonic seconds.

        Returns:
            By how many more slots are free than before (0 when not more).
        """
        if n_slots < 1:
            raise ValueError(f"a worker has at least one slot, got {n_slots}")
        worker = self._workers.setdefault(worker_id, _Worker(worker_id))
        before = worker.free
        worker.n_slots, worker.accepting, worker.driven = n_slots, accepting, True
        if accepting and worker.idle_since is None:
            worker.idle_since = now
        return max(0, worker.free - before)

    def remove_worker(self, worker_id: str) -> None:
        """Take a worker away; its leases may still be released. Unknown ones are ignored."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.driven = worker.accepting = False
            self._forget_if_over(worker_id, worker)

    def drop_worker(self, worker_id: str) -> None:
        """Another router counts this worker's slots: forget it with its leases."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            for lease_id in worker.leases:
                del self._worker_of[lease_id]

    def adopt(self, lease_id: str, worker_id: str) -> bool:
        """Count a lease of this worker that an earlier driver gave out.

        Returns:
            False when it counts already.

        Raises:
            KeyError: there is no such worker.
        """
        if lease_id in self._worker_of:
            return False
        worker = self._workers[worker_id]
        worker.leases.add(lease_id)
        worker.in_flight += 1
        self._worker_of[lease_id] = worker_id
        return True

    def try_acquire(
        self, lease_id: str, *, avoid: Collection[str] = (), affinity: str | None = None
    ) -> str | None:
        """Give a slot to this new lease.

        Args:
            lease_id: never used before.
            avoid: workers not to pick.
            affinity: requests with the same key go to the same worker while it is not overloaded.

        Returns:
            The worker's id, or None when no slot is free.

        Raises:
            ValueError: the lease is out already.
        """
        if lease_id in self._worker_of:
            raise ValueError(f"lease {lease_id} is out already")
        worker = None
        candidates = self._find(avoid)
        if len(candidates) == 1:  # whatever the policy
            worker = candidates[0]
        elif affinity is not None:
            loads = {w.worker_id: w.in_flight for w in self._workers.values() if w.accepting}
            worker = pick_by_affinity(affinity, candidates, loads)
        worker = worker or self._policy(candidates)
        if worker is None:
            return None
        self._n_picks += 1
        worker.picked = self._n_picks
        worker.leases.add(lease_id)
        worker.in_flight += 1
        self._worker_of[lease_id] = worker.worker_id
        return worker.worker_id

    def _candidates(self, avoid: Collection[str]) -> list[_Worker]:
        return [
            worker
            for worker in self._workers.values()
            if worker.accepting
            and worker.in_flight < worker.n_slots
            and not (avoid and worker.worker_id in avoid)
        ]

    def share(self, percent: int | None, canary: Collection[str] = ()) -> None:
        """Split the requests between two revisions from now on.

        Args:
            percent: of 100 requests, those that the canary's workers take; None = no split.
            canary: the workers of the canary; all others are the stable revision's.
        """
        if percent is None:
            self.split, self._find = None, self._candidates
            return
        if self.split is None or self.split.percent != percent:
            self.split = Split(percent)
            self._find = self._candidates_of_side
        self.split.canary = frozenset(canary)

    def _candidates_of_side(self, avoid: Collection[str]) -> list[_Worker]:
        assert self.split is not None
        return self.split.choose(self._candidates(avoid))

    def release(self, lease_id: str, *, now: float, n_requests: int = 1) -> str | None:
        """Take a lease's slot back, which has served so many requests.

        Returns:
            The worker whose slot it was; None when the lease is not out (any more).
        """
        worker_id = self._worker_of.pop(lease_id, None)
        if worker_id is None:
            return None
        worker = self._workers[worker_id]
        worker.leases.remove(lease_id)
        worker.in_flight -= 1
        worker.requests_total += n_requests
        worker.idle_since = now
        self._forget_if_over(worker_id, worker)
        return worker_id

    def worker_ids(self) -> Iterator[str]:
        """Every worker that is driven here, or of which leases are still out."""
        return iter(tuple(self._workers))

    def leases(self, worker_id: str) -> int:
        """Leases out at this worker; 0 for an unknown one."""
        worker = self._workers.get(worker_id)
        return worker.in_flight if worker else 0

    def accepting(self, worker_id: str) -> bool:
        """Whether slots of this worker are given out."""
        worker = self._workers.get(worker_id)
        return worker is not None and worker.driven and worker.accepting

    def requests_total(self, worker_id: str) -> int:
        """Requests that this worker has ended under leases of this router."""
        worker = self._workers.get(worker_id)
        return worker.requests_total if worker else 0

    def idle_s(self, worker_id: str, *, now: float) -> float:
        """Seconds since the worker's last lease ended, or since it was first accepting.

        0 while it is busy, and before it was ever accepting.
        """
        worker = self._workers.get(worker_id)
        if worker is None or worker.leases or worker.idle_since is None:
            return 0.0
        return max(0.0, now - worker.idle_since)

    def _forget_if_over(self, worker_id: str, worker: _Worker) -> None:
        if not worker.driven and not worker.leases:
            del self._workers[worker_id]
