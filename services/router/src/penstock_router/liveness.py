"""Which routers are dead: judged by their records, and only while we could have seen them.

The records lie in a memory bucket, so after a restart of nats-server all are gone until the next
heartbeats. A router is lost only when nothing was heard of it for `LOST_S` seconds of our own
clock during all of which the table of records was whole.
"""

from collections.abc import Collection
from typing import Final

#: Longest silence of a router that lives; the TTL of its record.
LOST_S: Final = 10.0


class Liveness:
    """When each router was last heard of."""

    def __init__(self) -> None:
        self._heard_at: dict[str, float] = {}
        self._left: set[str] = set()
        self._whole_since: float | None = None

    def heard(self, router_id: str, *, now: float) -> None:
        """The router gave a sign of life."""
        self._heard_at[router_id] = now
        self._left.discard(router_id)

    def left(self, router_id: str) -> None:
        """The router has said that it ends, with nothing in flight."""
        self._heard_at[router_id] = float("-inf")
        self._left.add(router_id)

    def watch(self, *, whole: bool, now: float) -> None:
        """Tell whether the table of records is whole; to be called at least once a second."""
        if not whole:
            self._whole_since = None
        elif self._whole_since is None:
            self._whole_since = now

    def is_lost(self, router_id: str, recorded: Collection[str], *, now: float) -> bool:
        """Whether the router is surely dead.

        Args:
            router_id: of the router.
            recorded: routers whose record is there.
            now: monotonic seconds.
        """
        if router_id in self._left:
            return True
        if router_id in recorded or self._whole_since is None:
            return False
        silent_since = max(self._whole_since, self._heard_at.get(router_id, self._whole_since))
        return now - silent_since >= LOST_S

    def living(self, recorded: Collection[str], *, now: float) -> frozenset[str]:
        """Every router that is not surely dead."""
        silent = (i for i in self._heard_at if not self.is_lost(i, recorded, now=now))
        return frozenset((*(i for i in recorded if i not in self._left), *silent))

    def forget(self, recorded: Collection[str], *, now: float) -> None:
        """Drop what is known of routers that are long gone."""
        for router_id, heard_at in tuple(self._heard_at.items()):
            if router_id not in recorded and now - heard_at > 10 * LOST_S:
                del self._heard_at[router_id]
                self._left.discard(router_id)
