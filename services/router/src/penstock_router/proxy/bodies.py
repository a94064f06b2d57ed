"""Bodies of HTTP/1 messages: where they end, and the bytes that pass for them.

A reader takes bytes as they come, in any split, and gives those to pass on and those that follow
the body. Bytes pass as they came wherever the framing on both sides is the same.
"""

import re
from typing import Final, Protocol

from penstock_router.proxy.heads import TRAILER_FIELDS, malformed, read_fields

#: Longest line that gives a chunk's size, with its extensions.
_SIZE_LINE_BYTES: Final = 256
_SIZE_DIGITS: Final = 15
#: Longest section of trailer fields.
_TRAILER_BYTES: Final = 16_384
_HEX: Final = b"0123456789abcdefABCDEF"
_EXTENDED: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*;[\t -~\x80-\xff]*")
_CONTROL: Final = re.compile(r"[^\t -~\x80-\xff]")

LAST_CHUNK: Final = b"0\r\n\r\n"


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

    __slots__ = ("_data_left", "_held", "_in_trailer", "_max_bytes", "_total", "_unframe", "done")

    def __init__(self, *, unframe: bool = False) -> None:
        """A body not begun; `unframe` = only its content passes."""
        self._unframe = unframe
        #: a line that is not whole yet
        self._held = b""
        #: bytes of the present chunk to come, with the line end after it; 0 = a size line comes
        self._data_left = 0
        self._in_trailer = False
        self._total = 0
        self.done = False

    @property
    def total(self) -> int:
        """Bytes of content announced so far."""
        return self._total

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See `BodyReader`."""
        if self._held:
            data, self._held = self._held + data, b""
        passing: list[bytes] = []
        begin = at = 0  # what lies between has been checked and passes as it is
        size = len(data)
        while at < size and not self._in_trailer:
            left = self._data_left
            if left:
                if size - at < left:
                    # All of it is content, or half of the line end.
                    end = min(size, at + max(0, left - 2))
                    if end == size:
                        self._data_left = left - (size - at)
                        at = size
                        break
                    self._check_half_end(data, end)
                    self._data_left = 2
                    self._held = data[end:]
                    size = at = end
                    break
                at += left
                if data[at - 2 : at] != b"\r\n":
                    raise malformed("A chunk is not followed by a line end.")
                self._data_left = 0
                if self._unframe:
                    passing.append(data[begin : at - 2])
                    begin = at
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._check_half_line(data, at)
                self._held = data[at:]
                size = at
                break
            line = data[at : end - 1]
            chunk = self._read_size(line, data[end - 1 : end])
            if self._unframe or len(line) > _SIZE_DIGITS or line.translate(None, _HEX):
                passing.append(data[begin:at])
                if not self._unframe:
                    passing.append(b"%x\r\n" % chunk)
                begin = end + 1
            at = end + 1
            if chunk:
                self._data_left = chunk + 2
                self._total += chunk
            else:
                self._in_trailer = True
        if begin < at:
            passing.append(data[begin:at])
        if not self._in_trailer:
            return passing[0] if len(passing) == 1 else b"".join(passing), b""
        fields, rest = self._read_trailer(data[at:])
        if not self._unframe:
            passing.append(fields)
        return b"".join(passing), rest

    def feed_eof(self) -> bytes | None:
        """See `BodyReader`."""
        return b"" if self.done else None

    @staticmethod
    def _check_half_end(data: bytes, at: int) -> None:
        if data[at : at + 1] != b"\r":
            raise malformed("A chunk is not followed by a line end.")

    @staticmethod
    def _check_half_line(data: bytes, at: int) -> None:
        if len(data) - at > _SIZE_LINE_BYTES:
            raise malformed("A chunk's size line is too long.")

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
