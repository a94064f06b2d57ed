"""Reads a stream by direct gets: no consumer, so nothing is left behind on the server (NATS ADR-31).

On a cluster any copy of the stream answers a direct get, and may lag behind. So what a decision
rests on (`last`, and that a message is gone) is asked of the stream's leader.

Pages are asked for one by one; a plain subscription to the same subjects tells when there is more.
So a reader reconnects without a word, and is as fast as its own reader takes pages.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from penstock_common.errors import BusDisconnectedError, BusRefusedError, BusTimeoutError
from penstock_common.nats.connection import Bus, Received, Subscription
from penstock_common.nats.wire import parse_headers, status_of

#: Most messages, and about as many bytes, that one page holds.
PAGE_MESSAGES: Final = 256
PAGE_BYTES: Final = 256 * 1024

_TIMEOUT_S: Final = 5.0
_END_OF_PAGE: Final = 204
_NOTHING: Final = 404
_NO_MESSAGE: Final = 10037  # JetStream's err_code


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages in the order of the stream."""

    messages: tuple[Received, ...]
    #: there was more in the stream when it was read
    more: bool

    @property
    def upto(self) -> int | None:
        """Sequence of its last message; None = it has none."""
        return sequence_of(self.messages[-1]) if self.messages else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a stream holds. An empty one has its last behind its first."""

    #: sequence of the first message that is kept, or of the next one if there is none
    first: int
    #: sequence of the last message that it ever had; 0 = none
    last: int
    #: when the first that is kept was stored; without meaning if there is none
    first_at: datetime


class StreamReader:
    """One stream. All calls but `on_append` raise as `Bus.request` does."""

    def __init__(self, bus: Bus, stream: str) -> None:
        """Over this bus; nothing is sent."""
        self._bus = bus
        self._stream = stream
        self._direct_get = f"$JS.API.DIRECT.GET.{stream}"

    @property
    def generation(self) -> int:
        """Counts connections to the server: what a restart may have changed is looked at anew."""
        return self._bus.generation

    async def last(self, subject: str) -> Received | None:
        """The last message of a subject; None = there is none."""
        return await self._of_leader({"last_by_subj": subject})

    async def at(self, sequence: int) -> Received | None:
        """The message with this sequence; None = it is gone."""
        body = json.dumps({"seq": sequence}).encode()
        answer = await self._bus.request(self._direct_get, body, timeout_s=_TIMEOUT_S)
        status = status_of(answer)
        if status == _NOTHING:
            return await self._of_leader({"seq": sequence})
        if status:
            raise BusRefusedError(f"direct get from {self._stream}: status {status}")
        return answer

    async def _of_leader(self, wanted: Mapping[str, Any]) -> Received | None:
        """A message as a direct get would give it."""
        verb = f"STREAM.MSG.GET.{self._stream}"
        try:
            message = (await self._bus.api(verb, wanted, timeout_s=_TIMEOUT_S))["message"]
        except BusRefusedError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        headers = parse_headers(base64.b64decode(message.get("hdrs", "")))
        headers |= {
            "Nats-Subject": message["subject"],
            "Nats-Sequence": str(message["seq"]),
            "Nats-Time-Stamp": message["time"],
        }
        data = base64.b64decode(message.get("data", ""))
        return Received(subject=message["subject"], data=data, headers=headers, reply="")

    async def last_of_each(self, pattern: str) -> tuple[Received, ...]:
        """The last message of each subject that fits."""
        return tuple(await self._ask({"multi_last": [pattern]}))

    async def after(
        self, sequence: int, pattern: str, *, messages: int = PAGE_MESSAGES
    ) -> MessagePage:
        """The page behind this sequence of the messages whose subjects fit."""
        return await self._page({"seq": sequence + 1}, pattern, messages)

    async def since(
        self, start: datetime, pattern: str, *, messages: int = PAGE_MESSAGES
    ) -> MessagePage:
        """The page of those that were stored at `start` or later."""
        return await self._page({"start_time": start.isoformat()}, pattern, messages)

    async def bounds(self) -> Bounds:
        """What the stream holds now, whatever the subjects."""
        state = (await self._bus.api(f"STREAM.INFO.{self._stream}"))["state"]
        return Bounds(
            max(1, int(state["first_seq"])),
            int(state["last_seq"]),
            datetime.fromisoformat(state["first_ts"]),
        )

    def on_append(self, pattern: str, poke: Callable[[], None]) -> Subscription:
        """Call `poke` for each message that fits, perhaps a moment before it can be read."""
        return self._bus.subscribe_nowait(pattern, lambda _: poke())

    async def _page(self, begin: Mapping[str, Any], pattern: str, messages: int) -> MessagePage:
        found = await self._ask(
            {**begin, "next_by_subj": pattern, "batch": messages, "max_bytes": PAGE_BYTES}
        )
        more = bool(found) and int(found[-1].headers.get("Nats-Num-Pending", "0")) > 0
        return MessagePage(tuple(found), more)

    async def _ask(self, body: Mapping[str, Any]) -> list[Received]:
        """All messages of the answer to a direct get for several."""
        found: list[Received] = []
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_message(message: Received) -> None:
            status = status_of(message)
            if not status:
                found.append(message)
            elif not done.done():
                done.set_result(status)

        if not self._bus.connected:
            raise BusDisconnectedError
        inbox = self._bus.new_inbox()
        subscription = self._bus.subscribe_nowait(inbox, on_message)
        try:
            self._bus.publish_nowait(self._direct_get, json.dumps(body).encode(), reply=inbox)
            async with asyncio.timeout(_TIMEOUT_S):
                status = await done
        except TimeoutError:
            raise BusTimeoutError(f"no page of {self._stream} within {_TIMEOUT_S:g} s") from None
        finally:
            await subscription.close()
        if status not in (_END_OF_PAGE, _NOTHING):
            raise BusRefusedError(f"direct get from {self._stream}: status {status}")
        return found


def sequence_of(message: Received) -> int:
    """Where the message of a direct get stands in its stream."""
    return int(message.headers["Nats-Sequence"])
