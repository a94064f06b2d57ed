"""From stored batches to what a reader is shown: where it stands, what it has, what is missing. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from penstock_client.documents import LogEntryDocument, LogGapDocument, LogLineDocument
from penstock_common.log_stream import StoredBatch
from penstock_common.messages import LogGap, LogLine

_POSITION: Final = re.compile(r"(\d{1,18})\.(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Position:
    """Behind one line: the sequence of its batch in the stream, and its number."""

    sequence: int
    n: int

    @override
    def __str__(self) -> str:
        return f"{self.sequence}.{self.n}"

    @classmethod
    def try_parse(cls, text: str) -> "Position | None":
        """The position in this text; None when it is none."""
        match = _POSITION.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class Shown:
    """A line, or the word that some are missing, and where to go on behind it."""

    position: Position
    document: LogEntryDocument


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a reader begins."""

    #: batches behind this sequence are read
    after: int = 0
    #: worker id → number of the first line to show
    first: Mapping[str, int] | None = None
    #: of the workers that are not named, everything is wanted, from their first line
    from_start: bool = True
    #: the entries of this batch up to the position's number were shown before
    resumed: Position | None = None


class Continuity:
    """Follows the numbers of the lines of each worker.

    A batch that was stored twice is shown once, and lines that the stream does not have are said.
    """

    def __init__(self, beginning: Beginning) -> None:
        """Begin there."""
        self._next = dict(beginning.first or {})
        self._from_start = beginning.from_start
        self._resumed = beginning.resumed

    def read(self, stored: StoredBatch) -> list[Shown]:
        """What the next batch brings."""
        batch = stored.batch
        worker_id = batch.worker_id
        if self._resumed is not None and stored.sequence == self._resumed.sequence:
            self._next[worker_id] = self._resumed.n + 1
        first = batch.entries[0].n if batch.entries else batch.next_n
        expected = self._next.get(worker_id, 1 if self._from_start else first)
        shown = []
        if first > expected:
            at = batch.entries[0].at if batch.entries else None
            gap = LogGapDocument(
                worker_id=worker_id,
                n=expected,
                last=first - 1,
                lines=first - expected,
                at=at,
                why="dropped",
            )
            shown.append(Shown(Position(stored.sequence, first - 1), gap))
            expected = first
        for entry in batch.entries:
            last = last_number(entry)
            if last < expected:
                continue
            shown.append(Shown(Position(stored.sequence, last), _document(worker_id, entry)))
            expected = last + 1
        self._next[worker_id] = max(expected, batch.next_n)
        return shown


def _document(worker_id: str, entry: LogLine | LogGap) -> LogEntryDocument:
    if isinstance(entry, LogGap):
        return LogGapDocument(
            worker_id=worker_id,
            n=entry.n,
            last=entry.last,
            lines=None if entry.why == "rotated" else entry.last - entry.n + 1,
            at=entry.at,
            why=entry.why,
        )
    return LogLineDocument(
        worker_id=worker_id,
        n=entry.n,
        at=entry.at,
        stream=entry.stream,
        text=entry.text,
        cut=entry.cut,
    )


def last_number(entry: LogLine | LogGap) -> int:
    """Number of the entry's last line."""
    return entry.last if isinstance(entry, LogGap) else entry.n


def n_lines(batches: Iterable[StoredBatch]) -> int:
    """How many lines these batches hold."""
    return sum(isinstance(entry, LogLine) for s in batches for entry in s.batch.entries)


def last_lines(histories: Mapping[str, Sequence[StoredBatch]], count: int) -> Beginning:
    """Where to begin in order to show the last `count` lines of all these workers together.

    Args:
        histories: worker id → its last batches, oldest first: with at least `count` lines, or all
            that the stream has.
        count: lines; of several workers those with the latest instants.
    """
    lines = sorted(
        (entry.at, worker_id, entry.n, stored.sequence)
        for worker_id, batches in histories.items()
        for stored in batches
        for entry in stored.batch.entries
        if isinstance(entry, LogLine)
    )
    chosen = lines[-count:] if count else []
    after = max((b[-1].sequence for b in histories.values() if b), default=0)
    first: dict[str, int] = {}
    for worker_id, batches in histories.items():
        if batches:
            first[worker_id] = batches[-1].batch.next_n
    for _, worker_id, n, sequence in chosen:
        first[worker_id] = min(n, first[worker_id])
        after = min(after, sequence - 1)
    if len(histories) == 1 and len(lines) < count:
        first = {}  # all that there is: say it when that is not all that there was
    return Beginning(after, first)
