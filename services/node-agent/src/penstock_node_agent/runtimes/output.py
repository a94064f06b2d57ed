"""A worker's output as a runtime reads it: raw lines in order, each with where to go on behind it."""

from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Final, NamedTuple, Protocol, TypeAlias

from penstock_common.messages import OutputName

#: A longer line is cut; engines split lines at this size themselves.
LINE_BYTES: Final = 16 * 1024

#: Where a runtime goes on reading a worker's output; only the runtime that made it knows how to
#: read it. Another run of the same worker (a container made anew) makes it void.
Cursor: TypeAlias = tuple[str | int, ...]


class OutputLine(NamedTuple):
    """One line, without its line break."""

    #: when it was written; None = whoever reads it says
    at: datetime | None
    stream: OutputName
    data: bytes
    #: it was longer than `LINE_BYTES`
    cut: bool
    #: behind this line
    cursor: Cursor


class OutputLost(NamedTuple):
    """Output that was not read: thrown away before, or more than anybody could read."""

    #: how many lines; None = nobody knows
    lines: int | None
    #: behind what was lost
    cursor: Cursor


#: What was read at once.
Output: TypeAlias = list[OutputLine | OutputLost]


#: Asked from time to time: whether lines of this output are only to be counted.
Skim: TypeAlias = Callable[[OutputName], bool]

#: Lines of what is only counted that are given all the same, where that is not little: they may be
#: the last ones.
SKIM_KEEPS: Final = 50


def read_all(_stream: OutputName) -> bool:
    """Skim nothing."""
    return False


class OutputFollower(Protocol):
    """Reads the output of workers. Both runtimes are one."""

    def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        """What a worker writes, until it has ended and all that it wrote was given.

        It begins at the first byte, or behind `cursor` when that is of the same run of the worker.
        It holds no thread while nothing is written, and what it holds it lets go of when the
        iteration ends or is closed. An engine that is away is waited for.

        Args:
            worker_id: a worker that was started; nothing comes of one that never was.
            cursor: of the last line that somebody has already; () = none.
            skim: what is only counted comes as `OutputLost` with its number of lines.
        """
        ...


async def nothing() -> AsyncGenerator[Output, None]:
    """The output of a worker that never was."""
    none: list[Output] = []
    for output in none:
        yield output


class LineCutter:
    """Cuts bytes into lines of at most `LINE_BYTES`; what is longer is cut, not split. Pure."""

    def __init__(self, *, in_long_line: bool = False) -> None:
        """`in_long_line`: the first bytes belong to a line whose beginning was given already."""
        self._begun = b""
        self._skipping = in_long_line

    def feed(self, data: bytes, add: Callable[[bytes, bool, int], None]) -> None:
        """Cut the next bytes.

        Args:
            data: what follows on the bytes fed before.
            add: called with each line, whether it was cut, and how much of `data` it took with
                all before it (its line break, or what was taken of a long one, included).
        """
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end
            if self._skipping:
                at = stop if end < 0 else end + 1
                self._skipping = end < 0
                continue
            room = LINE_BYTES - len(self._begun)
            if stop - at > room:
                add(self._begun + data[at : at + room], True, at + room)
                self._begun, self._skipping = b"", True
                at += room
            elif end < 0:
                self._begun += data[at:]
                return
            else:
                add(self._begun + data[at:end], False, end + 1)
                self._begun = b""
                at = end + 1

    def rest(self) -> bytes | None:
        """The line that has no line break, once no more comes; None = there is none."""
        begun, self._begun = self._begun, b""
        return begun or None
