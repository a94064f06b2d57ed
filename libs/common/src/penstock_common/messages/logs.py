"""What a worker wrote, in numbered lines."""

from typing import Literal, TypeAlias

from pydantic import AwareDatetime

from penstock_common.messages.base import Message

OutputName: TypeAlias = Literal["stdout", "stderr"]

#: Why lines are missing:
#: `too_fast`: the worker wrote more than its share;
#: `behind`: NATS was away, or slow, until no more of the worker's output could be held;
#: `rotated`: the node had thrown them away before they could be read (their number is not known).
GapReason: TypeAlias = Literal["too_fast", "behind", "rotated"]


class LogLine(Message):
    """One line of a worker."""

    #: counts the lines of this worker's both outputs, from 1
    n: int
    #: when it was written, to the engine's clock; of a process: when the node agent read it
    at: AwareDatetime
    stream: OutputName
    #: without its line break; what was no UTF-8 is U+FFFD
    text: str
    #: it was longer than shown
    cut: bool = False


class LogGap(Message):
    """Lines that a worker wrote and nobody has any more."""

    #: number of the first one
    n: int
    #: number of the last one; `rotated` takes one number for all
    last: int
    at: AwareDatetime
    why: GapReason


class LogBatch(Message):
    """Consecutive lines of one worker. Stream LOGS; written by the node agent.

    The numbers of a worker's batches follow on each other: where they do not, batches are missing
    (the oldest are dropped) or were lost.
    """

    worker_id: str
    endpoint_id: str
    node_id: str
    entries: tuple[LogLine | LogGap, ...] = ()
    #: number of the worker's next line
    next_n: int
    #: where the runtime goes on reading behind the last line
    cursor: tuple[str | int, ...] = ()
    #: sequence, in the stream, of the worker's batch before this one; 0 = there was none
    previous: int = 0
    #: all that the worker wrote has come
    ended: bool = False
