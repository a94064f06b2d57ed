"""Tells the api which API keys requests came with.

A request only sets a flag on what its key opens (`keys.py`); every few seconds this looks which
flags are set. So a use is known to a few seconds, and a busy router tells each key once a minute.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.errors import BusDisconnectedError
from penstock_common.key_uses import LOOK_S, KeyUses
from penstock_common.messages import KeyUseReport
from penstock_common.nats.connection import Bus

#: Keys of one report: some 60 bytes each, in a message of 1 MiB at most.
MOST_KEYS: Final = 1_000


class KeyUseReporter:
    """Sends the reports."""

    def __init__(
        self, bus: Bus, router_id: str, take_used: Callable[[], Iterable[str]], clock: Clock
    ) -> None:
        """Nothing was used yet.

        Args:
            bus: to the api.
            router_id: of this router.
            take_used: the keys that were used since its last call.
            clock: tells when.
        """
        self._bus = bus
        self._router_id = router_id
        self._take_used = take_used
        self._clock = clock
        self._uses = KeyUses()
        self._looked_at = float("-inf")

    def tick(self, now: float) -> None:
        """Look, and tell what is due; to be called once a second or so.

        Args:
            now: monotonic seconds.
        """
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        utc = self._clock.utc()
        for key_id in self._take_used():
            self._uses.note(key_id, utc)
        due = iter(self._uses.due(utc).items())
        while used := dict(islice(due, MOST_KEYS)):
            report = KeyUseReport(router_id=self._router_id, used=used)
            try:
                self._bus.publish_nowait(subjects.key_uses(self._router_id), report.encode())
            except BusDisconnectedError:
                return  # a later look tells it
            for key_id in used:
                self._uses.told(key_id, utc)
