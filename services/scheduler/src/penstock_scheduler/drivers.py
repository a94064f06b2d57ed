"""Which router counts the slots of which worker.

A worker keeps its driver for as long as that router lives: a move costs the slots a hand-over. A
new worker goes to the router that drives the fewest of its endpoint, then the fewest in all. Only
when a router drives nothing while another drives many (routers were restarted one after the other)
are idle workers moved to it, for which there is nothing to hand over.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from penstock_scheduler.snapshot import Worker

#: A router that drives so many while another drives none is worth relieving.
UNEVEN: Final = 4


class Drives:
    """How many workers each living router drives."""

    def __init__(self, routers: Iterable[str], driven: Iterable[tuple[str, str]]) -> None:
        """Counts from `driven`: (router, endpoint) of each worker that has a driver."""
        self._total: Counter[str] = Counter(dict.fromkeys(sorted(routers), 0))
        self._of_endpoint: Counter[tuple[str, str]] = Counter()
        for router, endpoint_id in driven:
            self._add(router, endpoint_id, 1)

    def pick(self, endpoint_id: str) -> str | None:
        """The router that drives the next worker of this endpoint; None = no router lives."""
        if not self._total:
            return None
        router = min(
            self._total,
            key=lambda name: (self._of_endpoint[name, endpoint_id], self._total[name], name),
        )
        self._add(router, endpoint_id, 1)
        return router

    def plan_relief(self, workers: Sequence[Worker]) -> list[tuple[Worker, str]]:
        """Idle workers to move to routers that drive nothing: (worker, new driver)."""
        moves: list[tuple[Worker, str]] = []
        for idle_router in [name for name, n in self._total.items() if n == 0]:
            busiest = max(self._total, key=lambda name: (self._total[name], name))
            if self._total[busiest] < UNEVEN:
                break
            movable = [w for w in workers if w.assignment.driver == busiest and w.idle_s]
            taken = {w.id for w, _ in moves}
            for worker in movable[: self._total[busiest] // 2]:
                if worker.id not in taken:
                    moves.append((worker, idle_router))
                    self._add(busiest, worker.assignment.endpoint_id, -1)
                    self._add(idle_router, worker.assignment.endpoint_id, 1)
        return moves

    def _add(self, router: str, endpoint_id: str, n: int) -> None:
        if router in self._total:
            self._total[router] += n
            self._of_endpoint[router, endpoint_id] += n
