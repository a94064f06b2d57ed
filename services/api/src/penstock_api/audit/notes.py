"""What the request under way has written: noted where it is written, told where it is recorded.

The store's writes know what was there before and what is there now, whichever dialect asked; who
asked is known to the request alone. A context variable joins the two, so no handler passes anything
on. Outside a request (the api's own loops) nothing is noted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from penstock_api.audit.changes import diff_records, target_of
from penstock_common.messages import AuditChange, AuditTarget, Message


class Notes:
    """What was written so far."""

    def __init__(self) -> None:
        self.targets: list[AuditTarget] = []
        self.changes: list[AuditChange] = []
        #: changes that are not listed
        self.left_out = 0

    def add(self, kind: str, target_id: str, old: Message | None, new: Message | None) -> None:
        """A record was written; None = there was, or is, none."""
        self.targets.append(target_of(kind, target_id, new or old))
        changes, left_out = diff_records(target_id, old, new)
        self.changes += changes
        self.left_out += left_out


_NOTES: Final[ContextVar[Notes | None]] = ContextVar("audit_notes", default=None)


def note_write(kind: str, target_id: str, old: Message | None, new: Message | None) -> None:
    """Note what a write has done, if a request is under way."""
    notes = _NOTES.get()
    if notes is not None:
        notes.add(kind, target_id, old, new)


@contextmanager
def collected() -> Iterator[Notes]:
    """Within the block, and in tasks that begin in it, writes are noted here."""
    notes = Notes()
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)
