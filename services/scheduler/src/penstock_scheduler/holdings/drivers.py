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
    """Who drives which worker, and how many each living router drives."""

    def __init__(self, routers: Iterable[str]) -> None:
        """Nobody drives anything yet; `routers`: those that live."""
        self._routers = sorted(routers)
        self._of: dict[str, tuple[str, str]] = {}
        self._total: Counter[str] = Counter()
        self._of_endpoint: Counter[tuple[str, str]] = Counter()

    def see_routers(self, routers: Iterable[str]) -> None:
        """These live now; what the others drive is counted on, for they may come back."""
        self._routers = sorted(routers)

    def put(self, key: str, router: str | None, endpoint_id: str) -> None:
        """This router drives the worker with this key from now on; None = nobody does."""
        before = self._of.get(key)
        after = (router, endpoint_id) if router is not None else None
        if after == before:
            return
        if before is not None:
            self._count(before, -1)
            del self._of[key]
        if after is not None:
            self._of[key] = after
            self._count(after, 1)

    def pick(self, endpoint_id: str, *, together: bool = False) -> str | None:
        """The router to drive the next worker of this endpoint; None = no router lives.

        Args:
            endpoint_id: whose worker.
            together: true = the one that drives most of its workers, else the one that drives fewest.
        """
        sign = -1 if together else 1
        return min(
            self._routers,
            key=lambda name: (sign * self._of_endpoint[name, endpoint_id], self._total[name], name),
            default=None,
        )

    def endpoints_to_relieve(self) -> set[str]:
        """Endpoints with workers of the busiest router, if one is to be relieved."""
        if len(self._routers) < 2:
            return set()
        busiest = self._busiest()
        if self._total[busiest] < UNEVEN or all(self._total[name] for name in self._routers):
            return set()
        return {endpoint_id for router, endpoint_id in self._of.values() if router == busiest}

    def plan_relief(self, workers: Sequence[Worker]) -> list[tuple[Worker, str]]:
        """Idle workers to move to routers that drive nothing: (worker, new driver)."""
        moves: list[tuple[Worker, str]] = []
        for idle_router in [name for name in self._routers if self._total[name] == 0]:
            busiest = self._busiest()
            if self._total[busiest] < UNEVEN:
                break
            movable = [w for w in workers if w.assignment.driver == busiest and w.idle_s]
            taken = {w.id for w, _ in moves}
            for worker in movable[: self._total[busiest] // 2]:
                if worker.id not in taken:
                    moves.append((worker, idle_router))
                    self.put(worker.key, idle_router, worker.assignment.endpoint_id)
        return moves

    def _busiest(self) -> str:
        return max(self._routers, key=lambda name: (self._total[name], name))

    def _count(self, drive: tuple[str, str], n: int) -> None:
        self._total[drive[0]] += n
        self._of_endpoint[drive] += n
        if not self._of_endpoint[drive]:
            del self._of_endpoint[drive]
