"""Server-sent events from the bytes of a stream (HTML, 9.2.6). Pure."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event."""

    name: str
    data: str
    #: the last id that the stream told; empty = none yet
    id: str


@dataclass(slots=True)
class EventReader:
    """Takes bytes as they come and gives the events that are whole."""

    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    #: the last id that the stream told, behind what was given so far; empty = none yet
    last_id: str = ""
    _rest: str = ""
    _id: str = field(default="", init=False)
    _name: str = ""
    _data: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._id = self.last_id

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """The events that these bytes complete; lines end with LF or CRLF."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            event = self._take(line.removesuffix("\r"))
            if event is not None:
                yield event

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            name, data = self._name or "message", self._data
            self._name, self._data, self.last_id = "", [], self._id
            return ServerEvent(name, "\n".join(data), self._id) if data else None
        field_name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field_name == "data":
            self._data.append(value)
        elif field_name == "event":
            self._name = value
        elif field_name == "id" and "\0" not in value:
            self._id = value
        return None
