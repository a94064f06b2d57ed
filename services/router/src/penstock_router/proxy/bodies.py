"""Bodies of HTTP/1 messages: where they end, and the bytes that pass for them.

A reader takes bytes as they come, in any split, and gives those to pass on and those that follow
the body. Bytes pass as they came wherever the framing on both sides is the same.
"""

import re
from typing import Final, Protocol

from penstock_router.proxy.heads import TRAILER_FIELDS, ResponseHead, malformed, read_fields

#: Longest line that gives a chunk's size, with its extensions.
_SIZE_LINE_BYTES: Final = 256
_SIZE_DIGITS: Final = 15
#: Longest section of trailer fields.
_TRAILER_BYTES: Final = 16_384
_HEX: Final = b"0123456789abcdefABCDEF"
_EXTENDED: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*;[\t -~\x80-\xff]*")
_CONTROL: Final = re.compile(r"[^\t -~\x80-\xff]")

LAST_CHUNK: Final = b"0\r\n\r\n"


_NO_BODY_STATUSES: Final = frozenset({204, 304})
_CHUNKED_LINE: Final = "Transfer-Encoding: chunked\r\n"


class BodyReader(Protocol):
    """Reads one body. Bytes come and go through `feed` until `done`."""

    #: whether the body has ended
    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take bytes: gives (those to pass on, those after the body).

        Raises:
            HttpError: they break the body's framing.
        """
        ...

    def feed_eof(self) -> bytes | None:
        """The peer sends no more: what is left to pass on, or None when the body is not whole."""
        ...


class FixedBody:
    """A body of a length that is known; 0 is no body."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `BodyReader`."""
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, b""
        end = self._left
        self._left = 0
        self.done = True
        return (data, b"") if not left else (data[:end], data[end:])

    def feed_eof(self) -> bytes | None:
        """See `BodyReader`."""
        return b"" if self.done else None


class OpenBody:
    """A response body that ends with its connection."""

    __slots__ = ("_chunking", "done")

    def __init__(self, *, chunking: bool) -> None:
        """A body not begun; `chunking` = what passes is framed as chunks."""
        self._chunking = chunking
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `BodyReader`."""
        if self._chunking and data:
            return b"%x\r\n%b\r\n" % (len(data), data), b""
        return data, b""

    def feed_eof(self) -> bytes | None:
        """See `BodyReader`."""
        self.done = True
        return LAST_CHUNK if self._chunking else b""


class ChunkedBody:
    """A chunked body; passes with its chunks, or as their content alone.

    Only whole, checked size lines pass; their extensions do not, nor do trailer fields that a
    body's end may not set.
    """

    __slots__ = (
        "_begin",
        "_data_left",
        "_held",
        "_in_trailer",
        "_passing",
        "_unframe",
        "done",
        "total",
    )

    def __init__(self, *, unframe: bool = False) -> None:
        """A body not begun; `unframe` = only its content passes."""
        self._unframe = unframe
        #: a line that is not whole yet
        self._held = b""
        #: bytes of the present chunk to come, with the line end after it; 0 = a size line comes
        self._data_left = 0
        self._in_trailer = False
        #: bytes of content announced so far
        self.total = 0
        self.done = False
        # Within one `feed`: the pieces that pass, and where in its data the next one begins.
        self._passing: list[bytes] = []
        self._begin = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `BodyReader`."""
        if self._held:
            data, self._held = self._held + data, b""
        at = self._begin = 0
        size = len(data)
        while at < size and not self._in_trailer:
            at = self._read_content(data, at) if self._data_left else self._read_line(data, at)
        self._pass_until(data, at)
        rest = b""
        if self._in_trailer:
            fields, rest = self._read_trailer(data[at:])
            if not self._unframe:
                self._passing.append(fields)
        passing, self._passing = self._passing, []
        return passing[0] if len(passing) == 1 else b"".join(passing), rest

    def _pass_until(self, data: bytes, end: int) -> None:
        if self._begin < end:
            self._passing.append(
                data[self._begin : end] if self._begin or end < len(data) else data
            )

    def _hold_from(self, data: bytes, at: int) -> int:
        self._pass_until(data, at)
        self._held = data[at:]
        self._begin = len(data)
        return self._begin

    def _read_content(self, data: bytes, at: int) -> int:
        """Pass over a chunk's content and the line end behind it; gives where it stops."""
        left, here = self._data_left, len(data) - at
        if here < left - 1:
            self._data_left = left - here
            return len(data)
        end = at + left - 2
        if data[end : at + left] != b"\r\n"[: here - left + 2]:
            raise malformed("A chunk is not followed by a line end.")
        if here < left:
            self._data_left = 2
            return self._hold_from(data, end)
        self._data_left = 0
        if self._unframe:
            self._pass_until(data, end)
            self._begin = end + 2
        return end + 2

    def _read_line(self, data: bytes, at: int) -> int:
        """Read the line with a chunk's size; gives where it ends."""
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - at > _SIZE_LINE_BYTES:
                raise malformed("A chunk's size line is too long.")
            return self._hold_from(data, at)
        line = data[at : end - 1]
        chunk = self._read_size(line, data[end - 1 : end])
        if self._unframe or len(line) > _SIZE_DIGITS or line.translate(None, _HEX):
            self._pass_until(data, at)
            if not self._unframe:
                self._passing.append(b"%x\r\n" % chunk)
            self._begin = end + 1
        if chunk:
            self._data_left = chunk + 2
            self.total += chunk
        else:
            self._in_trailer = True
        return end + 1

    def feed_eof(self) -> bytes | None:
        """See `BodyReader`."""
        return b"" if self.done else None

    @staticmethod
    def _read_size(line: bytes, end: bytes) -> int:
        if end != b"\r" or len(line) > _SIZE_LINE_BYTES:
            raise malformed("A chunk's size line does not end with CR LF.")
        if not line.translate(None, _HEX) and 0 < len(line) <= _SIZE_DIGITS:
            return int(line, 16)
        extended = _EXTENDED.fullmatch(line)
        if extended is None:
            raise malformed("A chunk's size is no hexadecimal number.")
        return int(extended[1], 16)

    def _read_trailer(self, data: bytes) -> tuple[bytes, bytes]:
        """(what passes of the section, what follows it); holds it back until it is whole."""
        if data.startswith(b"\r\n"):
            self.done = True
            return b"\r\n", data[2:]
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > _TRAILER_BYTES:
            if len(data) > _TRAILER_BYTES:
                raise malformed("The trailer fields are too long.")
            self._held = data
            return b"", b""
        lines = data[:end].decode("latin-1").split("\r\n")
        if any(map(_CONTROL.search, lines)):
            raise malformed("The trailer fields have a control character.")
        self.done = True
        passing, _ = read_fields(lines, TRAILER_FIELDS)
        text = "".join(f"{line}\r\n" for line in passing) + "\r\n"
        return text.encode("latin-1"), data[end + 4 :]


def has_body(status: int) -> bool:
    """Whether a final response with this status, to anything but a HEAD, has a body."""
    return status not in _NO_BODY_STATUSES


def frame_response(head: ResponseHead, method: str, *, http_11: bool) -> tuple[BodyReader, str]:
    """How a response's body is read, and the field that frames it for the client.

    Args:
        head: of the response.
        method: that it answers.
        http_11: whether the client speaks HTTP/1.1; else a body of unknown length ends with its
            connection.

    Returns:
        (reader, line): the line has its line end, and is empty where there is no such field.
    """
    if method == "HEAD" or not has_body(head.status):
        return FixedBody(0), head.length_line if head.status != 204 else ""
    if head.length is not None:
        return FixedBody(head.length), head.length_line
    line = _CHUNKED_LINE if http_11 else ""
    return ChunkedBody(unframe=not http_11) if head.chunked else OpenBody(chunking=http_11), line
