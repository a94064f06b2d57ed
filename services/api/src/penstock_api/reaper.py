"""Removes the records of deleted endpoints and orders about workers once nothing of them runs.

And those of API keys and join tokens that ended.
"""

import asyncio
import logging
from typing import Final

from penstock_api.audit.trail import AuditTrail
from penstock_api.store import Store
from penstock_api.worker_orders import carried_out
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.states import EndpointState
from penstock_common.subjects import WORKER_ORDERS

logger = logging.getLogger(__name__)

#: A tick comes at least so often; changes of the tables bring one at once.
TICK_S: Final = 2.0


class Reaper:
    """A loop over the watched tables; a tick alone is enough to converge."""

    def __init__(self, store: Store, audit: AuditTrail, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._poked = asyncio.Event()
        store.on_change(self._poked.set)

    async def run(self) -> None:
        """Tick for ever."""
        while True:
            await self.tick()
            await self.clean_keys()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()

    async def tick(self) -> list[str]:
        """Remove what may go; gives the ids of the endpoints that were removed."""
        await self._remove_orders()
        return await self._remove_endpoints()

    async def _remove_orders(self) -> None:
        """Remove the orders whose workers are gone."""
        orders = {key: row.value for key, row in self._store.worker_orders.rows.items()}
        for key in carried_out(orders, self._store.is_assigned, now=self._clock.utc()):
            try:
                await self._store.remove_record(WORKER_ORDERS, key, lambda: None)
            except PenstockError as error:
                logger.warning(
                    "order not removed",
                    extra={"action": "order_not_removed", "key": key, "error": str(error)},
                )
                return  # the next tick tries again

    async def _remove_endpoints(self) -> list[str]:
        """Remove the endpoints that may go; gives their ids.

        An endpoint may go once the scheduler has said `deleting`, after which it assigns no worker
        to it, and the last assignment is gone. Tables that are not current prove nothing.
        """
        removed = []
        for endpoint_id in self._gone():
            row = self._store.endpoints.rows.get(endpoint_id)
            if row is None:
                continue
            try:
                done = await self._store.remove_endpoint(endpoint_id, row)
            except PenstockError as error:
                logger.warning(
                    "endpoint not removed",
                    extra={
                        "action": "endpoint_not_removed",
                        "endpoint_id": endpoint_id,
                        "error": str(error),
                    },
                )
                break  # the next tick tries again
            if done:
                removed.append(endpoint_id)
                logger.info(
                    "endpoint removed",
                    extra={"action": "endpoint_removed", "endpoint_id": endpoint_id},
                )
        return removed

    async def clean_keys(self) -> list[str]:
        """Remove API keys and join tokens that ended and serve nothing; gives their ids."""
        if self._store.missing():  # whose endpoints exist is not known
            return []
        try:
            ended = await self._store.clean_api_keys(self._audit.own)
            ended += await self._store.clean_join_tokens(self._audit.own)
        except PenstockError as error:
            logger.warning(
                "keys not cleaned up",
                extra={"action": "keys_not_cleaned", "error": str(error)},
            )
            return []  # the next tick tries again
        for key_id in ended:
            logger.info("key ended", extra={"action": "key_ended", "key_id": key_id})
        return ended

    def _gone(self) -> list[str]:
        store = self._store
        deleted = [
            key for key, row in store.endpoints.rows.items() if row.value.deleted_at is not None
        ]
        if not deleted or store.missing():
            return []
        with_workers = {worker.endpoint_id for worker in store.assignments().values()}
        statuses = store.endpoint_status.rows
        return [
            endpoint_id
            for endpoint_id in deleted
            if endpoint_id not in with_workers
            and endpoint_id in statuses
            and statuses[endpoint_id].value.state is EndpointState.DELETING
        ]
