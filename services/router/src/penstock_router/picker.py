"""Which free worker takes the next request: plain functions over candidates.

Affinity is consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016, arXiv
1608.01350) over rendezvous weights (Thaler, Ravishankar 1998): each key has an order of workers of
its own, which the coming and going of one worker changes for that worker's keys only, and takes the
first one whose load is within `LOAD_BOUND` of the mean.

A policy sees only workers that accept requests and have a free slot. Ties go by when a worker last
began a request, then by id, so that the choice never depends on the order of a dictionary.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from math import ceil
from typing import Final, Literal, Protocol, TypeVar

#: A worker takes a request by affinity while it has at most so many times the mean load.
LOAD_BOUND: Final = 1.25

#: `spread`: least busy first; `pack`: fullest first, so that surplus workers fall idle.
Balance = Literal["spread", "pack"]


class Candidate(Protocol):
    """A worker with a free slot."""

    @property
    def worker_id(self) -> str:
        """Names it."""
        ...

    @property
    def in_flight(self) -> int:
        """Slots in use, below its number of slots."""
        ...

    @property
    def picked(self) -> int:
        """When it was last picked, as a counter of picks; 0 = never."""
        ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """Picks one of these candidates; None only when there are none."""

    def __call__(self, candidates: Iterable[C], /) -> C | None:
        """The picked one."""
        ...


# Plain loops: they run for every request, and a key function would take three times as long.


def pick_least_busy(candidates: Iterable[C], /) -> C | None:
    """The worker with the fewest requests in flight; among equals the one picked longest ago."""
    best: C | None = None
    for c in candidates:
        if (
            best is None
            or c.in_flight < best.in_flight
            or (
                c.in_flight == best.in_flight
                and (c.picked, c.worker_id)
                < (
                    best.picked,
                    best.worker_id,
                )
            )
        ):
            best = c
    return best


def pick_fullest(candidates: Iterable[C], /) -> C | None:
    """The worker with the most requests in flight; among equals the one picked last."""
    best: C | None = None
    for c in candidates:
        if (
            best is None
            or c.in_flight > best.in_flight
            or (
                c.in_flight == best.in_flight
                and (c.picked, c.worker_id)
                > (
                    best.picked,
                    best.worker_id,
                )
            )
        ):
            best = c
    return best


def pick_by_affinity(key: str, candidates: Iterable[C], loads: Mapping[str, int]) -> C | None:
    """The worker that this key prefers, as long as it is not overloaded.

    Args:
        key: equal for requests that belong together; any text.
        candidates: workers with a free slot.
        loads: requests in flight at every worker that accepts requests, candidates among them.

    Returns:
        None when every candidate is at its bound: the policy decides then.
    """
    bound = ceil(LOAD_BOUND * (sum(loads.values()) + 1) / max(1, len(loads)))
    fit = (c for c in candidates if c.in_flight < bound)
    return max(fit, key=lambda c: (_weight(key, c.worker_id), c.worker_id), default=None)


@lru_cache(8192)
def _weight(key: str, worker_id: str) -> bytes:
    digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8, person=b"affinity")
    digest.update(b"\0")
    digest.update(worker_id.encode())
    return digest.digest()


POLICIES: Final[dict[Balance, Policy]] = {"spread": pick_least_busy, "pack": pick_fullest}
