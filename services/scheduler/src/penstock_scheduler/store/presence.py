"""Who is still there, told from heartbeats on the reader's own clock.

A heartbeat's key expires in KV, but an absent key alone proves nothing: after a restart of
nats-server the bucket is empty until the next beat, and a reader that was cut off has heard
nobody. So somebody is *lost* only when his key is absent and he was silent for `lost_after_s`
during which this reader was connected and had the whole table. Somebody has *left* when his key
goes away long before it could have expired: then he took it away himself.

On a cluster a bucket takes no beats until it has another leader, which may last as long as a key
lives; then all keys expire at once, though everybody is there. So when a bucket speaks again after
a silence longer than the pause between beats, whoever is in it gets time for a beat before he is
lost. Where several beat this delays nothing: as long as one is heard the bucket was not silent.
"""

import math
from collections.abc import Collection, Iterable


class Presence:
    """Remembers when each heartbeat was heard last."""

    def __init__(self, *, lost_after_s: float) -> None:
        """Nobody heard yet; `lost_after_s`: seconds of silence that make somebody lost."""
        self._lost_after_s = lost_after_s
        self._heard_at: dict[str, float] = {}
        self._left: set[str] = set()
        self._synced_at: float | None = None
        self._told_at = -math.inf
        self._resumed_at = -math.inf

    @property
    def settling_since(self) -> float:
        """Since when everybody may have had time for a beat; -inf = always."""
        return max(self._resumed_at, -math.inf if self._synced_at is None else self._synced_at)

    @property
    def synced_at(self) -> float | None:
        """When the table was last listed whole; None = never."""
        return self._synced_at

    def note_synced(self, now: float) -> None:
        """The table is whole, for the first time or again after a reconnect."""
        self._synced_at = self._told_at = now

    def note_told(self, now: float) -> None:
        """The bucket told of a change, whoever it concerns: it takes writes."""
        if now - self._told_at >= self._lost_after_s / 2:
            self._resumed_at = now
        self._told_at = now

    def knows(self, name: str) -> bool:
        """Whether `name` was heard before."""
        return name in self._heard_at

    def note_heard(self, name: str, now: float) -> None:
        """A heartbeat of `name` came."""
        self._heard_at[name] = now
        self._left.discard(name)

    def note_removed(self, name: str, now: float) -> None:
        """The key of `name` went away, seen live: not missing from a new listing."""
        if now - self._heard_at.get(name, -math.inf) < self._lost_after_s / 2:
            self._left.add(name)

    def lost(self, names: Iterable[str], *, present: Collection[str], now: float) -> frozenset[str]:
        """Those of `names` that are gone for good.

        Args:
            names: whose loss matters (nodes with workers, routers that drive one).
            present: keys that the table holds; it must be whole now.
            now: monotonic seconds.
        """
        if self._synced_at is None:
            return frozenset()
        synced_at = self._synced_at
        all_could_beat = now - self._resumed_at >= self._lost_after_s / 2
        return frozenset(
            name
            for name in names
            if name not in present
            and (
                name in self._left
                or (all_could_beat and self._silent_s(name, synced_at, now) >= self._lost_after_s)
            )
        )

    def forget_old(self, *, present: Collection[str], now: float) -> None:
        """Drop who has been gone for so long that nobody asks for him any more."""
        for name in [n for n in self._heard_at if n not in present]:
            if now - self._heard_at[name] > 10 * self._lost_after_s:
                del self._heard_at[name]
                self._left.discard(name)

    def _silent_s(self, name: str, synced_at: float, now: float) -> float:
        return now - max(synced_at, self._heard_at.get(name, synced_at))
