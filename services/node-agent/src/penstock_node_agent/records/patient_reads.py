"""Reads of single records that a start needs: again and again while NATS is away."""

import asyncio
import logging
from typing import Final

from penstock_common.errors import BusDisconnectedError, BusTimeoutError, NoRespondersError
from penstock_common.nats.kv import Bucket
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.protocol import StartFailedError

logger = logging.getLogger(__name__)

#: Before each repeated read while NATS is away.
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_AWAY: Final = (BusDisconnectedError, BusTimeoutError, NoRespondersError)


async def read_patiently(bucket: Bucket, key: str, what: str) -> bytes | None:
    """The value of this key; None when there is none.

    Args:
        bucket: where it lies.
        key: its key.
        what: what it is, for messages, e.g. `registry auth ra-…`.

    Raises:
        StartFailedError: NATS stays away for half a minute.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            # The stream's leader: a replica may not know yet what was made a moment ago.
            entry, _revision = await bucket.latest(key)
        except _AWAY as error:
            if pause_s is None:
                break
            logger.warning(
                "record cannot be read, reading again",
                extra={
                    "action": "record_unread",
                    "record": what,
                    "error": str(error),
                    "pause_s": pause_s,
                },
            )
            await asyncio.sleep(pause_s)
        else:
            return entry.value if entry is not None else None
    raise StartFailedError(WorkerReason.START_FAILED, f"{what} could not be read: NATS is away")
