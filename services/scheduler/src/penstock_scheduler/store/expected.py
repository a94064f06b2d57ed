"""Writes that the tables do not show yet, by endpoint."""

from dataclasses import dataclass
from typing import Final

#: A write that the table does not show after so long will not be waited for any longer. On a cluster
#: a table whose watch lost its server is blind for up to 6 s, and lists again for some more: who
#: decided meanwhile would not know the worker that was just assigned, and assign another.
SHOWS_WITHIN_S: Final = 15.0

#: A row: bucket and key.
Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Expected:
    """The row at least as new, or None = the row gone; and since when."""

    revision: int | None
    since: float

    def shown_by(self, revision: int | None) -> bool:
        if self.revision is None or revision is None:
            return self.revision is revision
        return revision >= self.revision


class ExpectedWrites:
    """Which endpoints wait until their writes are shown."""

    def __init__(self) -> None:
        """Nothing is expected."""
        self._of: dict[str, dict[Name, _Expected]] = {}
        self._withheld: set[str] = set()

    def clear(self) -> None:
        """Expect nothing any more."""
        self._of.clear()
        self._withheld.clear()

    def expect(self, endpoint_id: str, name: Name, revision: int | None, now: float) -> None:
        """This row is to show a write of this revision, or its removal (None)."""
        self._of.setdefault(endpoint_id, {})[name] = _Expected(revision, now)

    def note_row(self, endpoint_id: str, name: Name, revision: int | None) -> bool:
        """A row has this revision now, None = it is gone; gives whether that is what was expected."""
        expected = self._of.get(endpoint_id, {}).get(name)
        if expected is None or not expected.shown_by(revision):
            return False
        self._drop(endpoint_id, name)
        return True

    def withhold(self, endpoint_id: str) -> bool:
        """Whether an endpoint has to wait; `release` tells when it need not any more."""
        if endpoint_id not in self._of:
            return False
        self._withheld.add(endpoint_id)
        return True

    def release(self, endpoint_id: str) -> bool:
        """Whether an endpoint that was withheld need not wait any more; true once."""
        if endpoint_id in self._of or endpoint_id not in self._withheld:
            return False
        self._withheld.discard(endpoint_id)
        return True

    def forget_old(self, endpoint_id: str, now: float) -> list[Name]:
        """Give up what was not shown in time; gives the rows."""
        expected = self._of.get(endpoint_id, {})
        old = [name for name, write in expected.items() if now - write.since > SHOWS_WITHIN_S]
        for name in old:
            self._drop(endpoint_id, name)
        return old

    def _drop(self, endpoint_id: str, name: Name) -> None:
        expected = self._of[endpoint_id]
        del expected[name]
        if not expected:
            del self._of[endpoint_id]
