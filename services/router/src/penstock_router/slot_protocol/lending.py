"""Slots that this router lent to other routers, until it is sure that they are back.

Theory of operation. As driver of a worker, this router offers slots to another one (`Grant`): for
a ticket, or ahead of need. Offers to one router are numbered. From the offer on, a slot stays
reserved until one of these says that it is free:

1. the other router's answer to the offer lacks it, or the other router has released it;
2. the other router's list of what it holds (`HeldLeases`, once a second) lacks it, and says that
   it has seen the offer's number or a higher one. It takes no offer that was overtaken, so a list
   is proof, however late anything comes;
3. the other router is dead (its record is gone), or another run of it has taken its place.

No answer is no answer: the slot may be in use. What was not heard of for `ASK_AGAIN_S` is asked
after: an offer that was not seen is sent again, else a list is asked for. A lost message so costs
a delay, never a slot and never a double use.
"""

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

#: Seconds without a word of the other router about a lease after which it is asked.
ASK_AGAIN_S: Final = 5.0
#: A router that asks twice within so long keeps asking: it is lent slots ahead of need.
ASKING_S: Final = 1.0
#: A slot that was lent ahead may be kept unused for so long.
KEEP_S: Final = 1.0
#: With fewer free slots than these, none is lent ahead.
LEAST_FREE: Final = 4


@dataclass(slots=True)
class Lent:
    """A slot that is lent, or being offered."""

    origin_id: str
    endpoint_id: str
    worker_id: str
    #: number of the offer; 0 = an earlier driver lent it
    number: int
    #: whether it may be kept when its request ends
    keeps: bool
    heard_at: float
    #: the run of the other router's process that holds it; None = that is not known yet
    holder_boot_id: str | None = None


class LentSlots:
    """The leases that are out at other routers."""

    def __init__(self) -> None:
        self._lent: dict[str, Lent] = {}
        self._numbers: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    @override
    def __repr__(self) -> str:
        return f"<LentSlots {len(self._lent)} out>"

    def __len__(self) -> int:
        return len(self._lent)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._lent

    def next_number(self, origin_id: str) -> int:
        """The number of the next offer to this router, from 1."""
        self._numbers[origin_id] += 1
        return self._numbers[origin_id]

    def add(self, lease_id: str, lent: Lent) -> None:
        """A slot is reserved under this lease for another router."""
        self._lent[lease_id] = lent

    def get(self, lease_id: str) -> Lent | None:
        """What is known of a lease; None = it is not out."""
        return self._lent.get(lease_id)

    def end(self, lease_id: str) -> Lent | None:
        """The lease is over; None when it was not out (any more)."""
        return self._lent.pop(lease_id, None)

    def listed(
        self, origin_id: str, boot_id: str, held: Collection[str], *, number: int, now: float
    ) -> tuple[str, ...]:
        """The other router listed what it holds; gives the leases that are over.

        Args:
            origin_id: the other router.
            boot_id: the run of its process that tells.
            held: what it holds of this router.
            number: highest number of an offer that it has seen.
            now: monotonic seconds.
        """
        self._seen[origin_id] = number
        over = []
        for lease_id, lent in self._lent.items():
            if lent.origin_id != origin_id:
                continue
            if lease_id in held:
                lent.heard_at, lent.holder_boot_id = now, boot_id
            elif lent.number <= number or lent.holder_boot_id not in (None, boot_id):
                over.append(lease_id)
        return tuple(over)

    def of_origin(self, origin_id: str) -> tuple[str, ...]:
        """Leases that this router holds, or was offered."""
        return tuple(i for i, lent in self._lent.items() if lent.origin_id == origin_id)

    def of_worker(self, worker_id: str) -> dict[str, Lent]:
        """Leases of this worker's slots."""
        return {i: lent for i, lent in self._lent.items() if lent.worker_id == worker_id}

    def origins(self) -> frozenset[str]:
        """Routers that hold, or were offered, a lease."""
        return frozenset(lent.origin_id for lent in self._lent.values())

    def keepers(self, endpoint_id: str, worker_id: str | None = None) -> frozenset[str]:
        """Routers that may hold slots of this endpoint (or worker) that no request uses."""
        return frozenset(
            lent.origin_id
            for lent in self._lent.values()
            if lent.keeps
            and lent.endpoint_id == endpoint_id
            and worker_id in (None, lent.worker_id)
        )

    def plan_asking(self, *, now: float) -> tuple[tuple[str, ...], frozenset[str]]:
        """(leases to offer again, routers to ask for a list); each once per `ASK_AGAIN_S`."""
        unseen, silent = [], set()
        for lease_id, lent in self._lent.items():
            if now - lent.heard_at >= ASK_AGAIN_S:
                lent.heard_at = now
                if lent.number > self._seen[lent.origin_id]:
                    unseen.append(lease_id)
                silent.add(lent.origin_id)
        return tuple(unseen), frozenset(silent)


class Demand:
    """How often each router asks for slots of one endpoint, and how many it is lent ahead."""

    def __init__(self) -> None:
        self._asked: dict[str, deque[float]] = {}

    def plan_ahead(self, origin_id: str, *, free: int, now: float) -> int | None:
        """A router has asked for a slot and gets one: how many more it is lent.

        As many as it asked for within `ASKING_S`, and at most half of what is free, so that its
        supply doubles with each time that it did not suffice.

        Args:
            origin_id: who asks.
            free: slots that are free beside the one it gets.
            now: monotonic seconds.

        Returns:
            None when it does not keep asking, or there is little to lend: it is to keep none.
        """
        asked = self._asked.setdefault(origin_id, deque(maxlen=256))
        while asked and now - asked[0] > ASKING_S:
            asked.popleft()
        asked.append(now)
        if len(asked) < 2 or free < LEAST_FREE:
            return None
        return min(len(asked), free // 2)

    def forget(self, *, now: float) -> None:
        """Drop routers that ask no more."""
        for origin_id, asked in tuple(self._asked.items()):
            if now - asked[-1] > ASKING_S:
                del self._asked[origin_id]
