"""Reads the engine's logs of containers as they grow: one connection each, and no thread.

The SDK would hold a thread for each container whose log is followed, so this asks the engine's
HTTP API itself. A connection that breaks, or says nothing for 30 s, is made again: where to
go on is known to the line, by the engine's time of each output's last line and how many lines had
that very time. What was rotated away meanwhile is noticed, since that last line is gone as well.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import aiohttp

from penstock_common.messages import OutputName
from penstock_common.nats.retry import Backoff
from penstock_node_agent.runtimes.output import (
    LINE_BYTES,
    SKIM_KEEPS,
    Cursor,
    Output,
    OutputLine,
    OutputLost,
    Skim,
    read_all,
)

logger = logging.getLogger(__name__)

_UNIX: Final = "unix://"
_OUTPUTS: Final[dict[int, OutputName]] = {1: "stdout", 2: "stderr"}
_HEAD: Final = struct.Struct(">BxxxI")
#: Longest wait for an answer; a stream of lines that is silent for longer is asked for again.
_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 30.0
#: The two outputs of a container are not written in the strict order of their times.
_DISORDER: Final = timedelta(seconds=5)
_PAUSE_CAP_S: Final = 5.0
#: A reader that was held up for so long asks anew.
_HELD_UP_S: Final = 0.5
#: Of the engine's `2026-01-02T03:04:05.123456789Z`.
_TIME_LENGTH: Final = 30


#: Which output, and what it says: the time, a space, a text.
Frame: TypeAlias = tuple[OutputName, bytes]


class FrameReader:
    """The frames in an engine's stream of a log. Pure."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now: which output, and what follows."""
        buffer = self._rest + data
        found = []
        at, size = 0, len(buffer)
        while at + _HEAD.size <= size:
            output, length = _HEAD.unpack_from(buffer, at)
            begin = at + _HEAD.size
            if begin + length > size:
                break
            at = begin + length
            if output in _OUTPUTS:
                found.append((_OUTPUTS[output], buffer[begin:at]))
        self._rest = buffer[at:]
        return found


@dataclass(slots=True)
class _Mark:
    """How far one output was read."""

    #: the engine's time of its last frame; they compare as texts; empty = it had none
    time: str = ""
    #: frames of that very time
    count: int = 0
    #: the frame began a line that was longer
    inside: bool = False
    #: frames of that time that a new connection has repeated
    repeated: int = 0


class LogPosition:
    """How far a container's log was read, and lines from its frames. Pure."""

    def __init__(self, container_id: str, cursor: Cursor = ()) -> None:
        """Begin behind `cursor`, if that is of this container, else at the first byte."""
        self._container_id = container_id
        self._marks = {"stdout": _Mark(), "stderr": _Mark()}
        if len(cursor) == 7 and cursor[0] == container_id:
            for mark, at in zip(self._marks.values(), (1, 4), strict=True):
                mark.time, mark.count = str(cursor[at]), int(cursor[at + 1])
                mark.inside = bool(cursor[at + 2])
        self._anchor: _Mark | None = None

    @property
    def container_id(self) -> str:
        """Of the container whose log it is."""
        return self._container_id

    @property
    def cursor(self) -> Cursor:
        """As `OutputLine.cursor`."""
        out, err = self._marks["stdout"], self._marks["stderr"]
        # fmt: off
        return (
            self._container_id, out.time, out.count, int(out.inside),
            err.time, err.count, int(err.inside),
        )
        # fmt: on

    def reconnect(self) -> str | None:
        """What to ask the engine for, in its seconds since 1970; None = all.

        From here on frames that were taken before are told from new ones.
        """
        last = max(self._marks.values(), key=lambda mark: mark.time)
        self._anchor = last if last.time else None
        for mark in self._marks.values():
            mark.repeated = 0
        if not last.time:
            return None
        since = _instant(last.time) - _DISORDER
        return f"{since.timestamp():.6f}000"

    def take_all(self, frames: Sequence[Frame], skim: Skim) -> Output:
        """What these frames bring; of an output that is skimmed, the last lines and a number."""
        left: dict[OutputName, int] = {}
        if self._anchor is None:  # else it is not known yet which frames are new
            for name in _OUTPUTS.values():
                if skim(name):
                    left[name] = sum(frame[0] == name for frame in frames) - SKIM_KEEPS
        found: Output = []
        skimmed = 0
        for name, frame in frames:
            if left.get(name, 0) > 0:
                left[name] -= 1
                skimmed += self._skim(self._marks[name], frame)
                continue
            if skimmed:
                found.append(OutputLost(skimmed, self.cursor))
                skimmed = 0
            found += self.take(name, frame)
        return found

    def _skim(self, mark: _Mark, frame: bytes) -> int:
        """Pass over a frame; gives 1 where a line begins with it."""
        begins = not mark.inside
        mark.inside = not frame.endswith(b"\n") and len(frame) > LINE_BYTES
        mark.time = frame[:_TIME_LENGTH].decode("ascii", "replace")
        mark.count = mark.repeated = 1
        return int(begins)

    def take(self, stream: OutputName, frame: bytes) -> Output:
        """What a frame brings: a line, perhaps the word that others were lost before it."""
        time, _, text = frame.partition(b" ")
        found: Output = []
        mark = self._marks[stream]
        instant = time.decode("ascii", "replace")
        if self._is_repeated(mark, instant):
            return found
        if self._anchor is not None and not self._anchor.repeated:
            found.append(OutputLost(None, self.cursor))
        self._anchor = None
        mark.count = mark.count + 1 if instant == mark.time else 1
        mark.time = instant
        mark.repeated = mark.count
        inside, whole = mark.inside, text.endswith(b"\n")
        cut = not whole and len(text) >= LINE_BYTES
        mark.inside = cut
        if not inside:
            line = text[:-1] if whole else text[:LINE_BYTES]
            found.append(OutputLine(_instant(instant), stream, line, cut, self.cursor))
        return found

    def _is_repeated(self, mark: _Mark, instant: str) -> bool:
        if instant < mark.time:
            return True
        if instant == mark.time and mark.repeated < mark.count:
            mark.repeated += 1
            return True
        return False


def _instant(time: str) -> datetime:
    """The engine's `2026-01-02T03:04:05.123456789Z`, to the microsecond."""
    return datetime.fromisoformat(time[:26].rstrip("Z")).replace(tzinfo=UTC)


class EngineLogs:
    """Follows containers of one engine."""

    def __init__(self, docker_host: str) -> None:
        """Of the engine at `unix:///path` or `tcp://host:port`; nothing is asked yet."""
        self._docker_host = docker_host
        self._made: aiohttp.ClientSession | None = None

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._made is None:
            connector: aiohttp.BaseConnector
            if self._docker_host.startswith(_UNIX):
                path = self._docker_host.removeprefix(_UNIX)
                connector = aiohttp.UnixConnector(path, limit=0, force_close=True)
                base = "http://docker"
            else:
                connector = aiohttp.TCPConnector(limit=0, force_close=True)
                base = "http://" + self._docker_host.partition("://")[2]
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S)
            self._made = aiohttp.ClientSession(
                base, connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._made

    async def close(self) -> None:
        """Close all connections."""
        if self._made is not None:
            await self._made.close()

    async def follow(
        self, name: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        """What the container with this name writes; see `OutputFollower.follow`."""
        position: LogPosition | None = None
        backoff = Backoff(first_s=0.1, cap_s=_PAUSE_CAP_S)
        silent = 0
        while True:
            try:
                inspected = await self._inspect(name)
                if inspected is None or inspected["State"]["Status"] == "created":
                    if position is not None:  # removed before its log was read to the end
                        yield [OutputLost(None, position.cursor)]
                    return
                if position is None or position.container_id != inspected["Id"]:
                    position = LogPosition(inspected["Id"], cursor)
                running = bool(inspected["State"].get("Running"))
                async with contextlib.aclosing(
                    self._read(position, skim, follow=running)
                ) as outputs:
                    async for output in outputs:
                        backoff.reset()
                        silent = 0
                        yield output
                if not running:
                    return  # all of it was read after its end
                silent += 1
                if silent > 1:  # the engine ends the stream of a container that runs on
                    await asyncio.sleep(backoff.pause_s(1.0))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                logger.info(
                    "engine's log stream broke, going on",
                    extra={
                        "action": "log_stream_broke",
                        "container": name,
                        "error": str(error) or type(error).__name__,
                    },
                )
                await asyncio.sleep(backoff.pause_s(1.0))

    async def _inspect(self, name: str) -> dict[str, Any] | None:
        async with (
            asyncio.timeout(_ANSWER_S),
            self._session.get(f"/containers/{name}/json") as answer,
        ):
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            answer.raise_for_status()
            inspected: dict[str, Any] = await answer.json()
            return inspected

    async def _read(
        self, position: LogPosition, skim: Skim, *, follow: bool
    ) -> AsyncGenerator[Output, None]:
        """What the log holds behind the position and, with `follow`, what comes to it."""
        query = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow))}
        since = position.reconnect()
        if since is not None:
            query["since"] = since
        frames = FrameReader()
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(_ANSWER_S):
                answer = await stack.enter_async_context(
                    self._session.get(f"/containers/{position.container_id}/logs", params=query)
                )
            if answer.status == HTTPStatus.NOT_FOUND:
                return
            answer.raise_for_status()
            while True:
                try:
                    async with asyncio.timeout(_SILENCE_S):
                        data = await answer.content.readany()
                except TimeoutError:
                    return
                if not data:
                    return
                output = position.take_all(frames.feed(data), skim)
                if output:
                    given_at = loop.time()
                    yield output
                    if follow and loop.time() - given_at > _HELD_UP_S:
                        # The engine passes over whole files of a reader that is too slow, without
                        # a word; a new connection finds out.
                        return
