"""Several stored messages of a stream by one question, without a consumer (NATS ADR-31)."""

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


async def batched_get(
    bus: Bus, stream: str, question: Mapping[str, Any], *, timeout_s: float = _TIMEOUT_S
) -> list[Received]:
    """The messages of the answer, in the order of the stream; empty when there are none.

    Their headers tell `Nats-Sequence`, `Nats-Subject`, `Nats-Time-Stamp` and `Nats-Num-Pending`. On
    a cluster a replica may answer that lags behind the last write.

    Args:
        bus: the connection.
        stream: a constant of `subjects`; it must allow direct gets.
        question: of a direct get, e.g. `{"seq": 7, "next_by_subj": "a.*", "batch": 100}`.
        timeout_s: for the whole answer.

    Raises:
        BusDisconnectedError: not connected; nothing was sent.
        BusTimeoutError: the answer was not whole in time.
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
        subject = f"$JS.API.DIRECT.GET.{stream}"
        bus.publish_nowait(subject, json.dumps(question).encode(), reply=inbox)
        async with asyncio.timeout(timeout_s):
            status = await done
    except TimeoutError:
        raise BusTimeoutError(f"no answer from {stream} within {timeout_s:g} s") from None
    finally:
        await subscription.close()
    if status not in (_END_OF_BATCH, _NOTHING):
        raise BusRefusedError(f"direct get from {stream}: status {status}")
    return found
