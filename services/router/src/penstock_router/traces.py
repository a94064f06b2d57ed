"""The trace that a request belongs to (W3C Trace Context): read, or begun here.

The router is a span of its own: what it sends on has the trace's id and flags, and a new parent id.
"""

import re
from typing import Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_GIVEN: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-")
_FLAGS: Final = re.compile(r"[0-9a-f]{2}")
#: Bytes of a `traceparent` of version 00; later versions may add something behind a dash.
_LENGTH: Final = 55
_SAMPLED: Final = 1
#: Of a trace that begins here: sampled, as what a worker begins itself is by default.
_NEW_FLAGS: Final = "01"


class Trace(NamedTuple):
    """A trace, as it is passed on."""

    #: 32 hexadecimal digits, not all 0
    trace_id: str
    #: 2 hexadecimal digits
    flags: str


def read_trace(traceparent: str | None) -> Trace | None:
    """The trace that a `traceparent` field names; None when there is none, or it is broken."""
    if traceparent is None:
        return None
    found = _GIVEN.match(traceparent)
    flags = traceparent[_LENGTH - 2 : _LENGTH]
    if found is None or not _FLAGS.fullmatch(flags):
        return None
    more = traceparent[_LENGTH:]
    if found[1] == "00":
        return None if more else Trace(found[2], flags)
    if more and more[0] != "-":
        return None
    # Of a later version's flags only this one is known.
    return Trace(found[2], f"{int(flags, 16) & _SAMPLED:02x}")


def begin_trace(trace_id: str) -> Trace:
    """A new trace; its id is 32 random hexadecimal digits."""
    return Trace(trace_id, _NEW_FLAGS)
