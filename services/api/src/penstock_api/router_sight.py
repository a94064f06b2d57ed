"""Waits until the routers show what the api has written.

Each router has a copy of the endpoints and API keys of its own, which follows a write within a
millisecond or so. Without this wait, who creates an endpoint and calls it at once might be told by
a router that there is none (docs/adr/0018).
"""

import asyncio
import logging
from typing import Final

from penstock_common.errors import BusDisconnectedError, BusTimeoutError, NoRespondersError
from penstock_common.messages import RouterRecord, Sight
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import WatchedTable
from penstock_common.subjects import router_sight

logger = logging.getLogger(__name__)

#: A write is answered after so long, whatever the routers say: one of them may hang.
SIGHT_TIMEOUT_S: Final = 0.5


class RouterSight:
    """Asks every router that has a record."""

    def __init__(self, bus: Bus, routers: WatchedTable[RouterRecord]) -> None:
        self._bus = bus
        self._routers = routers

    async def wait(self, bucket: str, key: str, revision: int) -> None:
        """Wait until every router shows this revision of the key (0 = shows it gone), or 0.5 s."""
        question = Sight(bucket=bucket, key=key, revision=revision).encode()
        living = [name for name, row in self._routers.rows.items() if not row.value.left]
        await asyncio.gather(*(self._ask(name, question) for name in living))

    async def _ask(self, router_id: str, question: bytes) -> None:
        try:
            await self._bus.request(router_sight(router_id), question, timeout_s=SIGHT_TIMEOUT_S)
        except NoRespondersError:
            return  # it is dead; its record expires
        except (BusDisconnectedError, BusTimeoutError) as error:
            logger.info(
                "router not heard of a write",
                extra={
                    "action": "router_sight_missing",
                    "router_id": router_id,
                    "error": str(error),
                },
            )
