"""When API keys were used last: noted as it happens, told at a bounded rate [pure].

A key may be used thousands of times a second. What is told of that is one instant, at most once
in `EVERY_S` for each key; what is told again or not at all does no harm.
"""

from datetime import datetime, timedelta
from typing import Final

#: Of one key it is told no more often.
EVERY_S: Final = 60.0
#: Whether something is to be told is looked at so often: a first use is known after so long.
LOOK_S: Final = 2.0
_EVERY: Final = timedelta(seconds=EVERY_S)


class KeyUses:
    """What one process knows of the uses of keys."""

    def __init__(self) -> None:
        #: not told yet: key → when it was used last, in the order of their first use since
        self._used: dict[str, datetime] = {}
        #: told within the last `EVERY_S`: key → when
        self._told: dict[str, datetime] = {}

    def note(self, key_id: str, at: datetime) -> None:
        """The key was used at this instant."""
        known = self._used.get(key_id)
        if known is None or at > known:
            self._used[key_id] = at

    def due(self, now: datetime) -> dict[str, datetime]:
        """Key → its last use, of those that may be told now; the longest waiting first."""
        # A clock that was set back must not silence anybody for longer.
        self._told = {key: at for key, at in self._told.items() if abs(now - at) < _EVERY}
        return {key: at for key, at in self._used.items() if key not in self._told}

    def told(self, key_id: str, now: datetime) -> None:
        """What `due` gave of this key was told."""
        self._used.pop(key_id, None)
        self._told[key_id] = now
