"""Which endpoints to decide on next.

Whatever happens pokes the endpoint that it concerns. Besides, a *pass* over all endpoints begins
every tick, in slices spread over the tick, so that it alone converges and keeps no poke waiting
longer than one slice takes. Endpoints at rest, for which time alone changes nothing, are left out of
all but every tenth pass, which is for what no poke told of. What may concern anybody (a node or a
router came or went) makes a pass begin at once, a whole one, whose slices follow each other closely.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

#: Endpoints of one slice of a pass.
SLICE: Final = 20
#: Every so many passes one is whole; the others may leave out endpoints at rest.
WHOLE_EVERY: Final = 10
#: Poked endpoints that are decided on together; more follow in the next decision.
_MOST_POKED: Final = 50


class Agenda:
    """What is poked, and what is left of the pass."""

    def __init__(self, tick_s: float) -> None:
        """Nothing poked; a pass is due at once.

        Args:
            tick_s: seconds from the beginning of one pass to that of the next.
        """
        self._tick_s = tick_s
        self._poked: dict[str, None] = {}
        self._slices: deque[tuple[str, ...]] = deque()
        self._all_poked = True
        self._n_passes = 0
        #: when the pass began, and the seconds between its slices
        self._began_at = 0.0
        self._every_s = 0.0
        self._slice_at = 0.0

    def poke(self, endpoint_id: str) -> None:
        """Something happened to this endpoint."""
        self._poked[endpoint_id] = None

    def poke_all(self) -> None:
        """Something happened that may concern every endpoint."""
        self._all_poked = True
        self._every_s = 0.0
        self._slice_at = -math.inf

    def pass_due(self, now: float) -> bool:
        """Whether to begin a pass."""
        # One that is under way ends first: however often all are poked, all have their turn.
        return not self._slices and (self._all_poked or now - self._began_at >= self._tick_s)

    @property
    def whole(self) -> bool:
        """Whether the next pass is one over all endpoints, those at rest included."""
        return self._all_poked or self._n_passes % WHOLE_EVERY == 0

    def begin_pass(self, order: Sequence[str], now: float) -> None:
        """A pass over these endpoints begins, in this order."""
        slices = [tuple(order[i : i + SLICE]) for i in range(0, len(order), SLICE)]
        self._every_s = 0.0 if self._all_poked else self._tick_s / max(1, len(slices))
        self._slices = deque(slices)
        self._all_poked = False
        self._n_passes += 1
        self._began_at = self._slice_at = now

    def take(self, now: float) -> set[str]:
        """The endpoints to decide on now, together: those poked, and a slice if one is due."""
        taken = set(list(self._poked)[:_MOST_POKED])
        for endpoint_id in taken:
            del self._poked[endpoint_id]
        if self._slices and now >= self._slice_at:
            taken.update(self._slices.popleft())
            self._slice_at += self._every_s
        return taken

    def wait_s(self, now: float) -> float:
        """Seconds until something is due if nothing happens."""
        if self._poked or self._all_poked:
            return 0.0
        due_at = self._slice_at if self._slices else self._began_at + self._tick_s
        return max(0.0, due_at - now)
