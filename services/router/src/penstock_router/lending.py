"""Slots that this router lent to other routers' requests, until it is sure that they are back.

Theory of operation. As driver of a worker, this router offers a slot to the origin of a ticket
(`GrantRequest`). From the offer on, the slot stays reserved until one of these says it is free:

1. the origin declined the offer, or has released the lease;
2. the origin's list of the leases it holds (`HeldLeases`, once a second) lacked it three times in
   a row: the release was lost, or the offer never came through;
3. the origin is dead (its record is gone).

No answer is no answer: the origin may have accepted. A lease of which nothing was heard for
`ASK_AGAIN_S` is asked for by repeating the offer, which the origin answers with whether it holds
the lease. A lost message so costs a delay, never a slot and never a double use.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

#: Lists in a row that lack a lease before it counts as released. One list may have been under way
#: before the origin accepted; a second one gives room to a slow release.
MISSING_LISTS: Final = 3
#: Seconds without a word of the origin about a lease after which it is asked again.
ASK_AGAIN_S: Final = 5.0


@dataclass(slots=True)
class _Lent:
    origin_id: str
    heard_at: float
    missing: int = 0


class LentSlots:
    """The leases that are out at other routers."""

    def __init__(self) -> None:
        self._lent: dict[str, _Lent] = {}

    @override
    def __repr__(self) -> str:
        return f"<LentSlots {len(self._lent)} out>"

    def __len__(self) -> int:
        return len(self._lent)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._lent

    def offer(self, lease_id: str, origin_id: str, *, now: float) -> None:
        """A slot is reserved under this lease and is being offered to `origin_id`."""
        self._lent[lease_id] = _Lent(origin_id, now)

    def accepted(self, lease_id: str, *, now: float) -> None:
        """The origin says that it holds the lease."""
        lent = self._lent.get(lease_id)
        if lent is not None:
            lent.heard_at, lent.missing = now, 0

    def end(self, lease_id: str) -> bool:
        """The lease is over; False when it was not out (any more)."""
        return self._lent.pop(lease_id, None) is not None

    def listed(self, origin_id: str, held: Collection[str], *, now: float) -> tuple[str, ...]:
        """The origin listed what it holds; gives (and forgets) the leases that are over."""
        over = []
        for lease_id, lent in self._lent.items():
            if lent.origin_id != origin_id:
                continue
            lent.heard_at = now
            lent.missing = 0 if lease_id in held else lent.missing + 1
            if lent.missing >= MISSING_LISTS:
                over.append(lease_id)
        return self._end_all(over)

    def lost(self, origin_id: str) -> tuple[str, ...]:
        """The origin is dead; gives (and forgets) its leases."""
        return self._end_all([i for i, lent in self._lent.items() if lent.origin_id == origin_id])

    def origins(self) -> frozenset[str]:
        """Routers that hold, or were offered, a lease."""
        return frozenset(lent.origin_id for lent in self._lent.values())

    def plan_asking(self, *, now: float) -> tuple[str, ...]:
        """Leases of which nothing was heard for long; each is given once per `ASK_AGAIN_S`."""
        silent = [i for i, lent in self._lent.items() if now - lent.heard_at >= ASK_AGAIN_S]
        for lease_id in silent:
            self._lent[lease_id].heard_at = now
        return tuple(silent)

    def _end_all(self, lease_ids: list[str]) -> tuple[str, ...]:
        for lease_id in lease_ids:
            del self._lent[lease_id]
        return tuple(lease_ids)
