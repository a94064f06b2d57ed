"""Lines of workers."""

from typing import Final, Literal, TypeAlias

from pydantic import AwareDatetime

from penstock_client.documents.base import Document
from penstock_common.messages import (
    GapReason,
    OutputName,
)


class LogLineDocument(Document):
    """One line of a worker."""

    worker_id: str
    #: counts the worker's lines from 1
    n: int
    at: AwareDatetime
    stream: OutputName
    text: str
    #: it was longer than shown
    cut: bool = False


_WHY_MISSING: Final = {
    "too_fast": "written faster than they are kept",
    "behind": "NATS was away for too long",
    "rotated": "thrown away on the node before they were read",
    "dropped": "older than what is kept, or lost",
}


class LogGapDocument(Document):
    """Lines of a worker that are missing."""

    worker_id: str
    #: numbers of the first and the last one
    n: int
    last: int
    #: how many; null = nobody knows
    lines: int | None
    at: AwareDatetime | None
    #: `dropped`: the stream does not have them (any more); the others: see `GapReason`
    why: GapReason | Literal["dropped"]

    @property
    def sentence(self) -> str:
        """For a person: how many lines are missing, and why."""
        count = "some lines are" if self.lines is None else f"{self.lines} lines are"
        count = "1 line is" if self.lines == 1 else count
        return f"--- {count} missing: {_WHY_MISSING[self.why]} ---"


LogEntryDocument: TypeAlias = LogLineDocument | LogGapDocument


class LogEndDocument(Document):
    """No more lines come."""

    #: `ended`: the worker has, and all its lines were shown; `gone`: it is, and its node said no
    #: more; `deleted`: its endpoint is; `caught_up`: all that there is was shown, as asked for
    why: Literal["ended", "gone", "deleted", "caught_up"]
