"""Which free worker takes the next request: plain functions over candidates.

A policy sees only workers that accept requests and have a free slot. Ties go by when a worker last
began a request, then by id, so that the choice never depends on the order of a dictionary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

#: `spread`: least busy first; `pack`: fullest first, so that surplus workers fall idle.
Balance = Literal["spread", "pack"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker with a free slot."""

    worker_id: str
    #: slots in use, below its number of slots
    in_flight: int
    #: when it was last picked, as a counter of picks; 0 = never
    picked: int


Policy = Callable[[Iterable[Candidate]], Candidate | None]


def pick_least_busy(candidates: Iterable[Candidate]) -> Candidate | None:
    """The worker with the fewest requests in flight; among equals the one picked longest ago."""
    return min(candidates, key=lambda c: (c.in_flight, c.picked, c.worker_id), default=None)


def pick_fullest(candidates: Iterable[Candidate]) -> Candidate | None:
    """The worker with the most requests in flight; among equals the one picked last."""
    return max(candidates, key=lambda c: (c.in_flight, c.picked, c.worker_id), default=None)


POLICIES: Final[dict[Balance, Policy]] = {"spread": pick_least_busy, "pack": pick_fullest}
