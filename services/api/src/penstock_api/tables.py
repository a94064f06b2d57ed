"""The api's watched tables, and how it writes: one at a time, by compare-and-set, seen when done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from penstock_api.audit.notes import note_write
from penstock_api.router_sight import RouterSight
from penstock_common.clock import Clock
from penstock_common.errors import (
    BusTimeoutError,
    WrongRevisionError,
)
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    JoinTokenRecord,
    KeyUse,
    Message,
    NodeOrder,
    NodeRecord,
    PrewarmRecord,
    PrewarmStatus,
    RegistryAuthRecord,
    RevisionRecord,
    RouterRecord,
    ScaleHistory,
    TemplateRecord,
    VolumeRecord,
    WebhookRecord,
    WebhookStatus,
    WorkerAssignment,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Row, WatchedTable, is_key
from penstock_common.subjects import (
    API_KEYS,
    ENDPOINT_STATUS,
    ENDPOINTS,
    JOIN_TOKENS,
    KEY_USES,
    NODE_ORDERS,
    NODES,
    PREWARM_STATUS,
    PREWARMS,
    REGISTRY_AUTHS,
    REVISIONS,
    ROUTERS,
    SCALE_HISTORY,
    TEMPLATES,
    VOLUMES,
    WEBHOOK_STATUS,
    WEBHOOKS,
    WORKER_KEYS,
    WORKER_ORDERS,
    WORKER_STATUS,
    WORKERS,
)

#: A write, its turn and its retries included, takes at most so long.
WRITE_TIMEOUT_S: Final = 10.0
#: How long a write waits to see itself in the table; it has succeeded either way.
SETTLE_TIMEOUT_S: Final = 2.0
#: Lost races in a row after which a write gives up; the other writers made progress each time.
MAX_ATTEMPTS: Final = 16
#: Bucket → what its records are, in the audit trail; others are called like their bucket.
_KINDS: Final = {
    ENDPOINTS: "endpoint",
    API_KEYS: "api_key",
    JOIN_TOKENS: "join_token",
    NODE_ORDERS: "node",
    WORKER_ORDERS: "worker",
    REGISTRY_AUTHS: "registry_auth",
    TEMPLATES: "template",
    VOLUMES: "volume",
    PREWARMS: "prewarm",
    WEBHOOKS: "webhook",
}
#: Tables whose changes are told to listeners that name none; heartbeats of nodes are not.
_POKING: Final = (ENDPOINTS, ENDPOINT_STATUS, WORKERS)

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Tables:
    """What the api knows, and the ways to write that its stores share."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._endpoints_bucket = Bucket(bus, ENDPOINTS)
        self._api_keys_bucket = Bucket(bus, API_KEYS)
        self._revisions_bucket = Bucket(bus, REVISIONS)
        self._node_orders_bucket = Bucket(bus, NODE_ORDERS)
        self._turn = asyncio.Lock()
        self._settling: list[asyncio.Future[None]] = []
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self.endpoints = self._table(ENDPOINTS, EndpointRecord.decode)
        self.endpoint_status = self._table(ENDPOINT_STATUS, EndpointStatus.decode)
        self.revisions = self._table(REVISIONS, RevisionRecord.decode)
        self.scale_history = self._table(SCALE_HISTORY, ScaleHistory.decode)
        self._workers = self._table(WORKERS, _decode_assignment, keys=WORKER_KEYS)
        self.worker_status = self._table(WORKER_STATUS, WorkerStatus.decode, keys=WORKER_KEYS)
        self.nodes = self._table(NODES, NodeRecord.decode)
        self.node_orders = self._table(NODE_ORDERS, NodeOrder.decode)
        self.worker_orders = self._table(WORKER_ORDERS, WorkerOrder.decode)
        self.api_keys = self._table(API_KEYS, ApiKeyRecord.decode)
        self.key_uses = self._table(KEY_USES, KeyUse.decode)
        self.join_tokens = self._table(JOIN_TOKENS, JoinTokenRecord.decode)
        self.registry_auths = self._table(REGISTRY_AUTHS, RegistryAuthRecord.decode)
        self.templates = self._table(TEMPLATES, TemplateRecord.decode)
        self.volumes = self._table(VOLUMES, VolumeRecord.decode)
        self.prewarms = self._table(PREWARMS, PrewarmRecord.decode)
        self.prewarm_status = self._table(PREWARM_STATUS, PrewarmStatus.decode)
        self.webhooks = self._table(WEBHOOKS, WebhookRecord.decode)
        self.webhook_status = self._table(WEBHOOK_STATUS, WebhookStatus.decode)
        self.routers = self._table(ROUTERS, RouterRecord.decode)
        self._router_sight = RouterSight(bus, self.routers)
        self._tables: dict[str, WatchedTable[Any]] = {
            ENDPOINTS: self.endpoints,
            ENDPOINT_STATUS: self.endpoint_status,
            REVISIONS: self.revisions,
            SCALE_HISTORY: self.scale_history,
            WORKERS: self._workers,
            WORKER_STATUS: self.worker_status,
            NODES: self.nodes,
            NODE_ORDERS: self.node_orders,
            WORKER_ORDERS: self.worker_orders,
            API_KEYS: self.api_keys,
            KEY_USES: self.key_uses,
            JOIN_TOKENS: self.join_tokens,
            REGISTRY_AUTHS: self.registry_auths,
            TEMPLATES: self.templates,
            VOLUMES: self.volumes,
            PREWARMS: self.prewarms,
            PREWARM_STATUS: self.prewarm_status,
            WEBHOOKS: self.webhooks,
            WEBHOOK_STATUS: self.webhook_status,
            ROUTERS: self.routers,
        }

    async def start(self) -> None:
        """Watch all tables; returns when each has been listed once."""
        async with asyncio.TaskGroup() as starts:
            for name, table in self._tables.items():
                starts.create_task(table.start(), name=f"start table {name}")

    async def stop(self) -> None:
        """End the watches."""
        for table in self._tables.values():
            await table.stop()

    def on_change(self, listener: Callable[[], None], *, buckets: Sequence[str] = _POKING) -> None:
        """Call `listener` after every change in these buckets.

        Unless told otherwise: of an endpoint, its status, or an assignment.
        """
        for bucket in buckets:
            self._listeners.setdefault(bucket, []).append(listener)

    def missing(self) -> list[str]:
        """What keeps the tables from being current: `nats`, or names of buckets; empty = ready."""
        if not self._bus.connected:
            return ["nats"]
        return [name for name, table in self._tables.items() if not table.synced]

    def assignments(self) -> dict[str, WorkerAssignment]:
        """Key → assignment of every worker, oldest first."""
        rows = self._workers.rows.items()
        assigned = [(key, row.value) for key, row in rows if row.value is not None]
        return dict(sorted(assigned, key=lambda pair: (pair[1].decided_at, pair[1].worker_id)))

    def is_assigned(self, key: str) -> bool:
        """Whether a worker has an assignment under this key; while that is not known, it has."""
        row = self._workers.rows.get(key)
        return not self._workers.synced or (row is not None and row.value is not None)

    def held(self) -> Iterator[tuple[WorkerAssignment, WorkerStatus | None]]:
        """Every worker that is assigned, with what its node says."""
        statuses = self.worker_status.rows
        for key, row in self._workers.rows.items():
            if row.value is not None:
                status = statuses.get(key)
                yield row.value, status.value if status else None

    def find_assignment(self, worker_id: str) -> WorkerAssignment | None:
        """The assignment of the worker with this id; None = it has none."""
        for row in self._workers.rows.values():
            if row.value is not None and row.value.worker_id == worker_id:
                return row.value
        return None

    def assignments_by_node(self) -> dict[str, list[WorkerAssignment]]:
        """Node id → the assignments placed on it."""
        placed: dict[str, list[WorkerAssignment]] = {}
        for assignment in self.assignments().values():
            placed.setdefault(assignment.node_id, []).append(assignment)
        return placed

    async def catch_up(self) -> None:
        """Wait until the table of endpoints shows all that was written before this call, by whomever.

        Where several apis share the calls, who has just changed an endpoint through one of them may
        be answered by another, whose table follows within a millisecond or so.

        Raises:
            PenstockError: NATS is away, or does not answer.
        """
        newest = await self._endpoints_bucket.newest_revision()
        with contextlib.suppress(TimeoutError):  # it is shown as it was seen last
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while self.endpoints.revision < newest:
                    await self._next_change()

    async def create_record(self, bucket: str, key: str, record: Message) -> None:
        """Store a new record of a bucket that has nothing of its own to check.

        Raises:
            PenstockError: NATS is away, or timed out: then it may or may not have been stored.
        """
        async with self._writing():
            revision = await Bucket(self._bus, bucket).put(key, record.encode(), revision=0)
            self._note(bucket, key, None, record)
            await self._settle(self._tables[bucket], key, revision)

    async def change_record(
        self, bucket: str, key: str, plan: Callable[[bytes | None], M | None]
    ) -> M | None:
        """Change a record by compare-and-set; gives what was written, None = nothing.

        Args:
            bucket: of this api.
            key: of the record.
            plan: the value as it is, or None, → the record to write, or None to leave it; called
                again after a lost race.

        Raises:
            PenstockError: what `plan` raises; NATS is away or timed out, in which case the change
                may or may not have been made.
        """
        if not is_key(key):  # nothing lies there, nor can it
            plan(None)
            return None
        async with self._writing():
            for _ in range(MAX_ATTEMPTS):
                entry, last = await Bucket(self._bus, bucket).latest(key)
                record = plan(entry.value if entry else None)
                if record is None:
                    return None
                try:
                    revision = await Bucket(self._bus, bucket).put(
                        key, record.encode(), revision=last
                    )
                except WrongRevisionError:
                    continue
                old = type(record).decode(entry.value) if entry else None
                self._note(bucket, key, old, record)
                await self._settle(self._tables[bucket], key, revision)
                return record
        raise WrongRevisionError(f"'{key}' is being changed by others; try again")

    async def remove_record(self, bucket: str, key: str, check: Callable[[], None]) -> None:
        """Remove a record, once `check`, called in this process's turn to write, has not raised.

        Raises:
            PenstockError: what `check` raises; NATS is away or timed out, in which case the record
                may or may not be gone.
        """
        async with self._writing():
            check()
            row = self._tables[bucket].rows.get(key)
            await Bucket(self._bus, bucket).delete(key)
            self._note(bucket, key, row.value if row else None, None)
            await self._settle_removal(self._tables[bucket], key)

    @staticmethod
    def _note(bucket: str, key: str, old: Message | None, new: Message | None) -> None:
        """For the audit trail: this record was written; None = there was, or is, none."""
        kind = _KINDS.get(bucket) or bucket.removeprefix("PENSTOCK_").lower()
        note_write(kind, key.rpartition(".")[2], old, new)

    def _table(
        self, bucket: str, decode: Callable[[bytes], T], *, keys: str = ">"
    ) -> WatchedTable[T]:
        def on_change(_key: str, _row: Row[T] | None) -> None:
            settling, self._settling = self._settling, []
            for waiter in settling:
                if not waiter.done():
                    waiter.set_result(None)
            for listener in self._listeners.get(bucket, ()):
                listener()

        return WatchedTable(self._bus, bucket, decode, keys=keys, on_change=on_change)

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Take this process's turn to write, for a bounded time."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S), self._turn:
                yield
        except TimeoutError:
            raise BusTimeoutError from None

    async def _settle(self, table: WatchedTable[T], key: str, revision: int) -> None:
        """Wait until the table shows this revision of the key, or a later one."""
        with contextlib.suppress(TimeoutError):  # written all the same; the table will follow
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while (row := table.rows.get(key)) is None or row.revision < revision:
                    await self._next_change()

    async def _settle_removal(self, table: WatchedTable[T], key: str) -> None:
        """Wait until the table shows the key no more."""
        with contextlib.suppress(TimeoutError):  # gone all the same; the table will follow
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while key in table.rows:
                    await self._next_change()

    async def _next_change(self) -> None:
        changed = asyncio.get_running_loop().create_future()
        self._settling.append(changed)
        await changed


def _decode_assignment(data: bytes) -> WorkerAssignment | None:
    # The scheduler's lease lies in the same bucket, and its key matches the workers' pattern.
    return WorkerAssignment.decode(data) if b'"worker_id"' in data else None
