"""How many requests arrive, a second, from the counters in the routers' reports [pure].

Theory of operation. A router counts the arrivals at each endpoint since it started, and its reports
may be lost or stop while nothing happens. So what counts is the growth since that router's last
report, however long ago; what grew before the first report that is heard is not known, and counts
as nothing. A counter that is lower than before is that of a router which started anew.
"""

from typing import Final

#: The rate is a mean over so many seconds.
WINDOW_S: Final = 10.0
#: A router that has said nothing about an endpoint for so long has its counter forgotten.
FORGET_S: Final = 3600.0


class Arrivals:
    """The arrivals at every endpoint over the last `WINDOW_S` seconds."""

    def __init__(self) -> None:
        #: (endpoint, router) → (when it was heard, its counter)
        self._counters: dict[tuple[str, str], tuple[float, int]] = {}
        #: endpoint → (when, how many), oldest first
        self._grown: dict[str, list[tuple[float, int]]] = {}

    def note(self, endpoint_id: str, router_id: str, total: int, now: float) -> None:
        """Take a counter that was heard at `now` (monotonic seconds)."""
        known = self._counters.get((endpoint_id, router_id))
        self._counters[endpoint_id, router_id] = (now, total)
        if known is None:
            return
        grown = total - known[1] if total >= known[1] else total
        if grown:
            recent = self._grown.setdefault(endpoint_id, [])
            recent.append((now, grown))
            if now - recent[0][0] > 2 * WINDOW_S:
                self._grown[endpoint_id] = [entry for entry in recent if now - entry[0] <= WINDOW_S]

    def per_second(self, endpoint_id: str, now: float) -> float:
        """Arrivals a second over the last `WINDOW_S` seconds."""
        recent = self._grown.get(endpoint_id, ())
        return sum(grown for at, grown in recent if now - at <= WINDOW_S) / WINDOW_S

    def forget_stale(self, now: float) -> None:
        """Drop what no longer counts, so that endpoints and routers long gone take no room."""
        self._counters = {
            pair: (at, total)
            for pair, (at, total) in self._counters.items()
            if now - at <= FORGET_S
        }
        self._grown = {
            endpoint_id: recent
            for endpoint_id, recent in self._grown.items()
            if now - recent[-1][0] <= WINDOW_S
        }
