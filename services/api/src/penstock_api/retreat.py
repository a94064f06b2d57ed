"""Goes back from revisions that the scheduler has found unable to start (docs/adr/0011)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from penstock_api.audit.own_changes import retreat
from penstock_api.audit.trail import AuditTrail
from penstock_api.endpoint_changes import EndpointDeletingError
from penstock_api.revisions import plan_retreat
from penstock_api.store import EndpointNotFoundError, Store
from penstock_common.clock import Clock
from penstock_common.errors import PenstockError
from penstock_common.messages import EndpointRecord

logger = logging.getLogger(__name__)

#: A tick comes at least so often; changes of the tables bring one at once.
TICK_S: Final = 2.0


class Retreat:
    """A loop over the watched tables; a tick alone is enough to converge."""

    def __init__(self, store: Store, audit: AuditTrail, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._poked = asyncio.Event()
        store.on_change(self._poked.set)

    async def run(self, announce: Callable[[EndpointRecord], None]) -> None:
        """Tick for ever; `announce` hears of each endpoint that went back."""
        while True:
            self._poked.clear()
            for record in await self.tick():
                announce(record)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._poked.wait()

    async def tick(self) -> list[EndpointRecord]:
        """Go back where the scheduler has said so; gives the records that changed."""
        changed = []
        for endpoint_id, row in list(self._store.endpoint_status.rows.items()):
            known = self._store.endpoints.rows.get(endpoint_id)
            failed = row.value.failed_revision
            if known is None or failed is None or failed != known.value.revision:
                continue
            record = await self._go_back(known.value)
            if record is not None:
                changed.append(record)
        return changed

    async def _go_back(self, seen: EndpointRecord) -> EndpointRecord | None:
        now, endpoint_id = self._clock.utc(), seen.endpoint_id
        status = self._store.endpoint_status.rows[endpoint_id].value
        filed = self._store.revisions_of(endpoint_id)
        planned = plan_retreat(seen, status, filed, now=now)
        if planned is seen:
            return None
        try:
            async with self._audit.own(retreat(seen, planned)):
                change = await self._store.change_endpoint(
                    endpoint_id, lambda record: plan_retreat(record, status, filed, now=now)
                )
        except (EndpointDeletingError, EndpointNotFoundError):
            return None
        except PenstockError as error:
            logger.warning(
                "endpoint not rolled back",
                extra={
                    "action": "rollback_failed",
                    "endpoint_id": endpoint_id,
                    "error": str(error),
                },
            )
            return None  # the next tick tries again
        if not change.changed:
            return None
        logger.warning(
            "endpoint rolled back",
            extra={
                "action": "endpoint_rolled_back",
                "endpoint_id": endpoint_id,
                "revision": change.record.revision,
                "why": change.record.revision_why,
            },
        )
        return change.record
