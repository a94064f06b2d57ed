"""Reads messages of a stream without a consumer: direct gets, one or many (NATS ADR-31).

Any replica answers, so on a cluster the answer may lag behind the last write.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from penstock_common.connection import Bus, Received
from penstock_common.errors import BusDisconnectedError, BusRefusedError, BusTimeoutError
from penstock_common.nats_wire import status_of

_TIMEOUT_S: Final = 5.0
_END_OF_BATCH: Final = 204
_NOTHING: Final = 404


async def get_batch(bus: Bus, stream: str, question: Mapping[str, Any]) -> list[Received]:
    """All messages of the answer to a direct get for several; none is there: [].

    Args:
        bus: to ask over.
        stream: its name; it has `allow_direct`.
        question: such as `{"seq": 1, "next_by_subj": "a.*", "batch": 100}`.

    Raises:
        BusDisconnectedError: not connected; nothing was asked.
        BusTimeoutError: the answer did not end within 5 s.
        BusRefusedError: the server refused to read.
    """
    found: list[Received] = []
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_message(message: Received) -> None:
        status = status_of(message)
        if not status:
            found.append(message)
        elif not done.done():
            done.set_result(status)

    if not bus.connected:
        raise BusDisconnectedError
    inbox = bus.new_inbox()
    subscription = bus.subscribe_nowait(inbox, on_message)
    try:
        bus.publish_nowait(
            f"$JS.API.DIRECT.GET.{stream}", json.dumps(question).encode(), reply=inbox
        )
        async with asyncio.timeout(_TIMEOUT_S):
            status = await done
    except TimeoutError:
        raise BusTimeoutError(f"no answer of {stream} within {_TIMEOUT_S:g} s") from None
    finally:
        await subscription.close()
    if status not in (_END_OF_BATCH, _NOTHING):
        raise BusRefusedError(f"direct get from {stream}: status {status}")
    return found


async def get_last(bus: Bus, stream: str, subject: str) -> Received | None:
    """The last message on this subject; None when there is none.

    Raises:
        BusDisconnectedError, BusTimeoutError, NoRespondersError: as for `Bus.request`.
        BusRefusedError: the server refused to read.
    """
    answer = await bus.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", timeout_s=_TIMEOUT_S)
    return _one(stream, answer)


async def get_at(bus: Bus, stream: str, sequence: int) -> Received | None:
    """The message with this sequence; None when it is gone. Raises as `get_last`."""
    body = json.dumps({"seq": sequence}).encode()
    answer = await bus.request(f"$JS.API.DIRECT.GET.{stream}", body, timeout_s=_TIMEOUT_S)
    return _one(stream, answer)


def sequence_of(message: Received) -> int:
    """Where a message that a direct get brought lies in its stream."""
    return int(message.headers["Nats-Sequence"])


def _one(stream: str, answer: Received) -> Received | None:
    status = status_of(answer)
    if status == _NOTHING:
        return None
    if status:
        raise BusRefusedError(f"direct get from {stream}: status {status}")
    return answer
