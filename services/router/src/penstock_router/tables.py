"""The watched tables of the router, feeding its catalogue."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from penstock_common import subjects
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    Message,
    RouterRecord,
    Sight,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Row, WatchedTable
from penstock_router.catalogue import Catalogue

T = TypeVar("T", bound=Message)


def decode_assignment(data: bytes) -> WorkerAssignment | None:
    """The assignment in a value of WORKERS; None for the scheduler's lease, which lies there too.

    Raises:
        ValueError: it is neither.
    """
    document = json.loads(data)
    if isinstance(document, dict) and "worker_id" not in document and "holder" in document:
        return None
    return WorkerAssignment.model_validate(document)


def _value(row: Row[T] | None) -> T | None:
    return None if row is None else row.value


class Tables:
    """All tables of the router."""

    def __init__(
        self,
        bus: Bus,
        catalogue: Catalogue,
        *,
        on_endpoint: Callable[[str], None],
        on_router: Callable[[RouterRecord], None],
        on_row: Callable[[str, str], None],
    ) -> None:
        """Tables that are not started.

        Args:
            bus: to watch over.
            catalogue: gets the rows.
            on_endpoint: told the id of each endpoint that a change concerns.
            on_router: told the record of a router whose heartbeat came.
            on_row: told (bucket, key) of an endpoint or API key when its change was applied.
        """
        self._catalogue = catalogue
        self._on_endpoint = on_endpoint
        self._on_router = on_router
        self._on_row = on_row
        self._routers = WatchedTable(
            bus, subjects.ROUTERS, RouterRecord.decode, on_change=self._put_router
        )
        self._endpoints = WatchedTable(
            bus, subjects.ENDPOINTS, EndpointRecord.decode, on_change=self._put_endpoint
        )
        self._keys = WatchedTable(
            bus, subjects.API_KEYS, ApiKeyRecord.decode, on_change=self._put_key
        )
        self._others = (
            self._endpoints,
            WatchedTable(
                bus, subjects.ENDPOINT_STATUS, EndpointStatus.decode, on_change=self._put_status
            ),
            WatchedTable(
                bus,
                subjects.WORKERS,
                decode_assignment,
                keys=subjects.WORKER_KEYS,
                on_change=self._put_assignment,
            ),
            WatchedTable(
                bus,
                subjects.WORKER_STATUS,
                WorkerStatus.decode,
                keys=subjects.WORKER_KEYS,
                on_change=self._put_worker_status,
            ),
            self._keys,
        )

    @property
    def routers(self) -> Mapping[str, Row[RouterRecord]]:
        """The records of the routers that are there."""
        return self._routers.rows

    @property
    def routers_whole(self) -> bool:
        """Whether that is all of them, as far as the connection knows."""
        return self._routers.synced

    @property
    def whole(self) -> bool:
        """Whether every table is whole, as far as the connection knows."""
        return self._routers.synced and all(table.synced for table in self._others)

    def shows(self, sight: Sight) -> bool:
        """Whether a write of an endpoint or an API key can be seen here."""
        rows: Mapping[str, Row[Any]]
        match sight.bucket:
            case subjects.ENDPOINTS:
                rows = self._endpoints.rows
            case subjects.API_KEYS:
                rows = self._keys.rows
            case _:
                return False
        row = rows.get(sight.key)
        if sight.revision == 0:
            return row is None
        return row is not None and row.revision >= sight.revision

    async def start(self) -> None:
        """Begin, and wait until every table is whole.

        Raises:
            BusTimeoutError: one could not be listed in time.
        """
        for table in (*self._others, self._routers):
            await table.start()

    async def stop(self) -> None:
        """End the watches."""
        for table in (*self._others, self._routers):
            await table.stop()

    def _tell(self, endpoint_ids: tuple[str, ...]) -> None:
        for endpoint_id in endpoint_ids:
            self._on_endpoint(endpoint_id)

    def _put_endpoint(self, key: str, row: Row[EndpointRecord] | None) -> None:
        self._tell(self._catalogue.put_endpoint(key, _value(row)))
        self._on_row(subjects.ENDPOINTS, key)

    def _put_status(self, key: str, row: Row[EndpointStatus] | None) -> None:
        self._tell(self._catalogue.put_status(key, _value(row)))

    def _put_assignment(self, key: str, row: Row[WorkerAssignment | None] | None) -> None:
        if key == subjects.SCHEDULER_LEASE_KEY:
            return
        assignment, revision = (None, 0) if row is None else (row.value, row.revision)
        self._tell(self._catalogue.put_assignment(key, assignment, revision))

    def _put_worker_status(self, key: str, row: Row[WorkerStatus] | None) -> None:
        revision = 0 if row is None else row.revision
        self._tell(self._catalogue.put_worker_status(key, _value(row), revision))

    def _put_key(self, key: str, row: Row[ApiKeyRecord] | None) -> None:
        self._tell(self._catalogue.put_key(key, _value(row)))
        self._on_row(subjects.API_KEYS, key)

    def _put_router(self, key: str, row: Row[RouterRecord] | None) -> None:
        if row is not None:
            self._on_router(row.value)
