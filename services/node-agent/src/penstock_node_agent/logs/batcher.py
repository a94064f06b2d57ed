"""From a worker's lines to batches: numbers, bounds, and the word about what is left out. Pure.

Theory of operation.
1. Every line gets a number, also one that is dropped: a gap names the numbers that are missing.
2. Each output has a purse of bytes that fills at `RATE_BYTES_PER_S`. When it is empty, lines are
   dropped until it holds `REFILL_BYTES` again, so that what is kept stands in long stretches with
   one gap between them, and not every second line. A flood on stdout silences no word on stderr.
3. A kept line ends a stretch of dropped ones: their gap comes before it. The last of a stretch are
   held back, and come if the output ends with it, since the last words say why.
4. Lines that wait for their batch are bounded. While the worker runs, `full` says that nobody
   should read on: the engine's own log is the buffer. When it has ended the rest is read at once,
   since its log will be removed; then the oldest waiting lines make room.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from penstock_common.messages import LogGap, LogLine, OutputName
from penstock_node_agent.runtimes.output import Cursor, Output, OutputLine, OutputLost

#: What a line takes in a batch beside its text.
LINE_COST: Final = 100
#: A batch is due so long after its first line …
MOST_WAIT_S: Final = 0.1
#: … or once it is so large.
BATCH_BYTES: Final = 32 * 1024
#: Most that waits.
MOST_WAITING_BYTES: Final = 512 * 1024
#: Share of one output of a worker, over time and at once.
RATE_BYTES_PER_S: Final = 256 * 1024
BURST_BYTES: Final = 2 * 1024 * 1024
REFILL_BYTES: Final = BURST_BYTES // 4
#: Most of the last dropped lines that are held back.
HELD_BACK_LINES: Final = 50


@dataclass(slots=True)
class _Purse:
    bytes: float = float(BURST_BYTES)
    #: empty, and not full enough again
    dropping: bool = False

    def pays(self, cost: int) -> bool:
        """Take the cost of a line out of it; False = the line is dropped."""
        if self.dropping and self.bytes >= REFILL_BYTES:
            self.dropping = False
        if not self.dropping and self.bytes < cost:
            self.dropping = True
        if self.dropping:
            return False
        self.bytes -= cost
        return True


@dataclass(slots=True)
class _Dropped:
    first: int
    last: int
    at: datetime
    #: behind the last one
    cursor: Cursor


class LogBatcher:
    """The lines of one worker on their way into the stream."""

    def __init__(self, next_n: int = 1, cursor: Cursor = ()) -> None:
        """Begin with this number, behind this cursor."""
        self._next_n = next_n
        self._cursor = cursor
        self._waiting: deque[tuple[LogLine | LogGap, Cursor, int]] = deque()
        self._waiting_bytes = 0
        self._oldest_at = 0.0
        self._purses: dict[OutputName, _Purse] = {"stdout": _Purse(), "stderr": _Purse()}
        self._filled_at: float | None = None
        #: dropped for the rate since the last line that was kept
        self._dropped: _Dropped | None = None
        self._held_back: deque[tuple[int, OutputLine, datetime]] = deque(maxlen=HELD_BACK_LINES)

    @property
    def next_n(self) -> int:
        """Number of the next line."""
        return self._next_n

    @property
    def full(self) -> bool:
        """So much waits that nobody should read on."""
        return self._waiting_bytes >= MOST_WAITING_BYTES

    def skims(self, stream: OutputName) -> bool:
        """Whether lines of this output would be dropped: they need only be counted."""
        purse = self._purses[stream]
        return purse.dropping and purse.bytes < REFILL_BYTES

    @property
    def dropping(self) -> bool:
        """The worker writes more than its share."""
        return self.skims("stdout") or self.skims("stderr")

    @property
    def waiting(self) -> bool:
        """Whether anything waits for a batch."""
        return bool(self._waiting)

    def due_in(self, now: float) -> float:
        """Seconds until the next batch is due; 0 = it is. For when something waits."""
        if self._waiting_bytes >= BATCH_BYTES:
            return 0.0
        return max(0.0, self._oldest_at + MOST_WAIT_S - now)

    def add(self, output: Output, at: datetime, now: float) -> int:
        """Take what was read; gives what it costs in bytes.

        Args:
            output: lines, and places where lines were lost.
            at: the instant of lines that do not tell theirs.
            now: monotonic seconds.
        """
        self._fill_purse(now)
        cost = 0
        for item in output:
            if isinstance(item, OutputLost):
                cost += LINE_COST
                self._add_lost(item, at, now)
            else:
                cost += _cost(item)
                self._add_line(item, at, now)
        self._make_room(at)
        return cost

    def end(self, now: float) -> None:
        """The output has ended: let the last dropped lines through."""
        held_back = list(self._held_back)
        dropped = self._dropped
        if dropped is not None and held_back:
            dropped.last = held_back[0][0] - 1
            dropped.cursor = held_back[0][1].cursor
            if dropped.last < dropped.first:
                self._dropped = None
        self._flush_dropped(now)
        for n, item, at in held_back:
            self._wait(_line(n, item, at), item.cursor, _cost(item), now)

    def take(self) -> tuple[tuple[LogLine | LogGap, ...], int, Cursor]:
        """The next batch's entries, the number and the cursor behind them; () = nothing waits."""
        entries: list[LogLine | LogGap] = []
        taken = 0
        while self._waiting and (not entries or taken + self._waiting[0][2] <= BATCH_BYTES):
            entry, self._cursor, cost = self._waiting.popleft()
            entries.append(entry)
            taken += cost
        self._waiting_bytes -= taken
        behind = _last(entries[-1]) + 1 if entries else self._next_n
        return tuple(entries), behind, self._cursor

    def _add_line(self, item: OutputLine, at: datetime, now: float) -> None:
        cost = _cost(item)
        n = self._next_n
        self._next_n += 1
        if not self._purses[item.stream].pays(cost):
            self._held_back.append((n, item, at))
            self._drop(n, n, item.at or at, item.cursor)
            return
        self._flush_dropped(now)
        self._wait(_line(n, item, at), item.cursor, cost, now)

    def _add_lost(self, lost: OutputLost, at: datetime, now: float) -> None:
        n = self._next_n
        self._held_back.clear()  # lines are missing between these and the end
        if lost.lines is not None:
            self._next_n += lost.lines
            self._drop(n, n + lost.lines - 1, at, lost.cursor)
            return
        self._flush_dropped(now)
        self._next_n += 1
        self._wait(LogGap(n=n, last=n, at=at, why="rotated"), lost.cursor, LINE_COST, now)

    def _drop(self, first: int, last: int, at: datetime, cursor: Cursor) -> None:
        if last < first:
            return
        if self._dropped is None:
            self._dropped = _Dropped(first, last, at, cursor)
        else:
            self._dropped.last, self._dropped.cursor = last, cursor

    def _flush_dropped(self, now: float) -> None:
        """Say what was dropped, before what comes behind it."""
        dropped, self._dropped = self._dropped, None
        self._held_back.clear()
        if dropped is not None:
            gap = LogGap(n=dropped.first, last=dropped.last, at=dropped.at, why="too_fast")
            self._wait(gap, dropped.cursor, LINE_COST, now)

    def _wait(self, entry: LogLine | LogGap, cursor: Cursor, cost: int, now: float) -> None:
        if not self._waiting:
            self._oldest_at = now
        self._waiting.append((entry, cursor, cost))
        self._waiting_bytes += cost

    def _make_room(self, at: datetime) -> None:
        """Drop the oldest that waits where even a reader that heeds `full` has overdone it."""
        if self._waiting_bytes <= 2 * MOST_WAITING_BYTES:
            return
        first: int | None = None
        last, cursor = 0, self._cursor
        while self._waiting_bytes > MOST_WAITING_BYTES:
            entry, cursor, cost = self._waiting.popleft()
            self._waiting_bytes -= cost
            first = entry.n if first is None else first
            last = _last(entry)
        assert first is not None
        gap = LogGap(n=first, last=last, at=at, why="behind")
        self._waiting.appendleft((gap, cursor, LINE_COST))
        self._waiting_bytes += LINE_COST

    def _fill_purse(self, now: float) -> None:
        if self._filled_at is not None:
            gained = (now - self._filled_at) * RATE_BYTES_PER_S
            for purse in self._purses.values():
                purse.bytes = min(float(BURST_BYTES), purse.bytes + gained)
        self._filled_at = now


def _last(entry: LogLine | LogGap) -> int:
    return entry.last if isinstance(entry, LogGap) else entry.n


def _line(n: int, item: OutputLine, at: datetime) -> LogLine:
    text = item.data.decode(errors="replace")
    return LogLine(n=n, at=item.at or at, stream=item.stream, text=text, cut=item.cut)


def _cost(item: OutputLine) -> int:
    return len(item.data) + LINE_COST
