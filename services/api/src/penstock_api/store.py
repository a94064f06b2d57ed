"""What the api knows and writes: watched tables of every record, and its own buckets.

Reads come from the tables, also while NATS is away. A write goes to KV with the revision that it
was computed from; when somebody else wrote first it is computed again from the new record. Then it
waits until this process's own table shows it, so that a request sees what the one before it did,
and then until the routers' tables do (`router_sight.py`).

Uniqueness of `app_name` is held by a lock within this process. Two api processes could accept the
same name within the same few milliseconds; `docs/http-api.md` says so.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, TypeAlias

from penstock_api.api_keys import (
    ApiKeyFixedError,
    ApiKeyNotFoundError,
    plan_cleanup,
    plan_revocation,
)
from penstock_api.audit.own_changes import (
    OwnChange,
    end_of_join_token,
    end_of_key,
    other_admin_key,
)
from penstock_api.auth import ADMIN_KEY_ID
from penstock_api.endpoint_changes import check_app_name_free
from penstock_api.join_tokens import is_over
from penstock_api.preconditions import ANY, IfMatch
from penstock_api.revisions import outdated, present_revision
from penstock_api.tables import MAX_ATTEMPTS, Tables
from penstock_common.errors import (
    BusDisconnectedError,
    PenstockError,
    WrongRevisionError,
)
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    NodeOrder,
    RevisionRecord,
)
from penstock_common.nats.kv import Row
from penstock_common.subjects import (
    API_KEYS,
    ENDPOINTS,
    JOIN_TOKENS,
    NODE_ORDERS,
    revision_key,
)

#: Largest endpoint record: an assignment with a copy of it fits in a NATS message (1 MiB), an
#: event about it in the stream of events (256 KiB).
MAX_RECORD_BYTES: Final = 192 * 1024


#: Keeps on record what the block changes by itself.
Recording: TypeAlias = Callable[[OwnChange], AbstractAsyncContextManager[None]]


class EndpointNotFoundError(PenstockError):
    """There is no such endpoint."""

    error_type: ClassVar[str] = "endpoint_not_found"
    status_hint: ClassVar[int] = 404


class NodeNotFoundError(PenstockError):
    """There is no such node."""

    error_type: ClassVar[str] = "node_not_found"
    status_hint: ClassVar[int] = 404


class DocumentTooLargeError(PenstockError):
    """The endpoint's document is too large to hand to nodes; shorten env or secrets."""

    error_type: ClassVar[str] = "document_too_large"
    status_hint: ClassVar[int] = 413


@dataclass(frozen=True, slots=True)
class Change:
    """What a write did."""

    record: EndpointRecord
    #: of the record, in KV
    revision: int
    #: false = the record was so already, nothing was written
    changed: bool


class Store(Tables):
    """The writes of endpoints, node orders and API keys."""

    def find(self, name: str) -> EndpointRecord:
        """The endpoint with this id or this `app_name`; raises as `find_row`."""
        return self.find_row(name).value

    def find_row(self, name: str) -> Row[EndpointRecord]:
        """The endpoint with this id or this `app_name`, with its revision in KV.

        Raises:
            EndpointNotFoundError: there is none.
        """
        row = self.endpoints.rows.get(name)
        if row is not None:
            return row
        for row in self.endpoints.rows.values():
            if row.value.spec.app_name == name:
                return row
        raise EndpointNotFoundError(f"there is no endpoint '{name}'")

    def try_find(self, name: str) -> EndpointRecord | None:
        """The endpoint with this id or this `app_name`; None = there is none."""
        try:
            return self.find(name)
        except EndpointNotFoundError:
            return None

    def node_ids(self) -> list[str]:
        """Every node that reports, has a worker, or has an order; sorted."""
        placed = (assignment.node_id for assignment in self.assignments().values())
        return sorted({*self.nodes.rows, *self.node_orders.rows, *placed})

    def node_order(self, node_id: str) -> NodeOrder | None:
        """What an operator wants of a node; None = nothing."""
        row = self.node_orders.rows.get(node_id)
        return row.value if row else None

    async def order_node(
        self, node_id: str, plan: Callable[[NodeOrder | None], NodeOrder | None]
    ) -> bool:
        """Change a node's order; says whether it changed.

        Args:
            node_id: the node.
            plan: the order that stands → the one that is to stand; None = none.

        Raises:
            PenstockError: `NodeNotFoundError`; NATS is away or timed out, in which case the order
                may or may not have been changed.
        """
        async with self._writing():
            if node_id not in self.node_ids():
                raise NodeNotFoundError(f"there is no node '{node_id}'")
            old = self.node_order(node_id)
            new = plan(old)
            if new == old:
                return False
            if new is None:
                await self._node_orders_bucket.delete(node_id)
                self._note(NODE_ORDERS, node_id, old, None)
                await self._settle_removal(self.node_orders, node_id)
            else:
                revision = await self._node_orders_bucket.put(node_id, new.encode())
                self._note(NODE_ORDERS, node_id, old, new)
                await self._settle(self.node_orders, node_id, revision)
        return True

    def revisions_of(self, endpoint_id: str) -> dict[int, RevisionRecord]:
        """Number → revision, of an endpoint's past revisions."""
        prefix = f"{endpoint_id}."
        rows = self.revisions.rows.items()
        return {row.value.revision: row.value for key, row in rows if key.startswith(prefix)}

    def check_writable(self, old: EndpointRecord | None, new: EndpointRecord) -> None:
        """Nothing, when `new` could be stored in the place of `old`, None = as a new endpoint.

        Raises:
            PenstockError: `AppNameTakenError`, `DocumentTooLargeError`, or the list of endpoints
                is not current.
        """
        if old is None or new.spec.app_name != old.spec.app_name:
            self._check_app_name(new)
        _encode(new)

    async def create_endpoint(self, record: EndpointRecord) -> int:
        """Store a new endpoint; gives its revision in KV.

        Raises:
            PenstockError: `AppNameTakenError`; `DocumentTooLargeError`; NATS is away, or timed
                out, in which case the endpoint may or may not have been stored.
        """
        async with self._writing():
            self._check_app_name(record)
            revision = await self._endpoints_bucket.put(
                record.endpoint_id, _encode(record), revision=0
            )
            self._note(ENDPOINTS, record.endpoint_id, None, record)
            await self._settle(self.endpoints, record.endpoint_id, revision)
        await self._router_sight.wait(ENDPOINTS, record.endpoint_id, revision)
        return revision

    async def change_endpoint(
        self,
        name: str,
        plan: Callable[[EndpointRecord], EndpointRecord],
        *,
        if_match: IfMatch = ANY,
    ) -> Change:
        """Change an endpoint's record by compare-and-set.

        Args:
            name: its id or `app_name`.
            plan: record → changed record, or the same object to leave it; called again with the
                newer record after a lost race.
            if_match: which revisions in KV may be changed.

        Raises:
            PenstockError: what `plan` raises; `EndpointNotFoundError`; `AppNameTakenError`;
                `PreconditionFailedError`; NATS is away or timed out, in which case the change may or may not have been made.
        """
        async with self._writing():
            endpoint_id = self.find(name).endpoint_id
            for _ in range(MAX_ATTEMPTS):
                entry, _marker = await self._endpoints_bucket.latest(endpoint_id)
                if entry is None:
                    raise EndpointNotFoundError(f"there is no endpoint '{name}'")
                if_match.check(entry.revision)
                old = EndpointRecord.decode(entry.value)
                new = plan(old)
                if new is old:
                    return Change(old, entry.revision, changed=False)
                if new.spec.app_name != old.spec.app_name:
                    self._check_app_name(new)
                if new.revision != old.revision:
                    await self._file_revision(old)
                try:
                    revision = await self._endpoints_bucket.put(
                        endpoint_id, _encode(new), revision=entry.revision
                    )
                except WrongRevisionError:
                    continue
                self._note(ENDPOINTS, endpoint_id, old, new)
                await self._settle(self.endpoints, endpoint_id, revision)
                break
            else:
                raise WrongRevisionError(f"'{name}' is being changed by others; try again")
        await self._router_sight.wait(ENDPOINTS, endpoint_id, revision)
        return Change(new, revision, changed=True)

    async def remove_endpoint(self, endpoint_id: str, row: Row[EndpointRecord]) -> bool:
        """Remove a deleted endpoint's record, unless it changed since `row`; says whether it did."""
        async with self._writing():
            for number in self.revisions_of(endpoint_id):
                await self._revisions_bucket.delete(revision_key(endpoint_id, number))
            try:
                await self._endpoints_bucket.delete(endpoint_id, revision=row.revision)
            except WrongRevisionError:
                return False
        return True

    async def _file_revision(self, record: EndpointRecord) -> None:
        """Keep the present revision of a record that is about to get another; safe to repeat."""
        key = revision_key(record.endpoint_id, record.revision)
        revision = await self._revisions_bucket.put(key, present_revision(record).encode())
        await self._settle(self.revisions, key, revision)
        filed = [*self.revisions_of(record.endpoint_id)]
        for number in outdated(record, filed):
            await self._revisions_bucket.delete(revision_key(record.endpoint_id, number))

    def find_api_key(self, key_id: str) -> ApiKeyRecord:
        """The API key with this id.

        Raises:
            ApiKeyNotFoundError: there is none.
        """
        row = self.api_keys.rows.get(key_id)
        if row is None:
            raise ApiKeyNotFoundError(f"there is no API key '{key_id}'")
        return row.value

    def last_use(self, key_id: str) -> datetime | None:
        """When the API key was used last, to a minute or so; None = never, as far as is known."""
        row = self.key_uses.rows.get(key_id)
        return row.value.at if row else None

    async def create_api_key(self, record: ApiKeyRecord) -> None:
        """Store a new API key.

        Raises:
            PenstockError: NATS is away, or timed out: then it may or may not have been stored.
        """
        async with self._writing():
            await self._put_api_key(None, record, revision=0)

    async def change_api_key(
        self, key_id: str, plan: Callable[[ApiKeyRecord], ApiKeyRecord]
    ) -> ApiKeyRecord:
        """Change an API key's record as `plan` says; gives the record.

        Raises:
            PenstockError: `ApiKeyNotFoundError`, `ApiKeyFixedError`; another api wrote it in the
                same moment; NATS is away, or timed out.
        """
        async with self._writing():
            old = self._own_api_key(key_id)
            new = plan(old.value)
            if new is not old.value:
                await self._put_api_key(old.value, new, revision=old.revision)
            return new

    async def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """Let this key open nothing any more; gives its last record.

        Raises:
            PenstockError: as for `change_api_key`.
        """
        async with self._writing():
            old = self._own_api_key(key_id)
            new = plan_revocation(old.value, self._endpoint_records(), now=self._clock.utc())
            await self._end_api_key(old, new)
        return new or old.value.model_copy(update={"revoked_at": self._clock.utc()})

    async def clean_api_keys(self, recording: Recording) -> list[str]:
        """End what is left of keys that expired long ago or serve nothing; gives their ids.

        Raises:
            PenstockError: another api wrote one in the same moment; NATS is away, or timed out.
        """
        ended = []
        for key_id, seen in tuple(self.api_keys.rows.items()):
            now = self._clock.utc()
            left = plan_cleanup(seen.value, self._endpoint_records(), now=now)
            if left is seen.value:
                continue
            async with recording(end_of_key(seen.value, left)), self._writing():
                row = self.api_keys.rows.get(key_id)
                if row is None:
                    continue
                new = plan_cleanup(row.value, self._endpoint_records(), now=now)
                if new is not row.value:
                    await self._end_api_key(row, new)
                    ended.append(key_id)
        return ended

    async def clean_join_tokens(self, recording: Recording) -> list[str]:
        """Remove join tokens that expired long ago; gives their ids. Raises as `remove_record`."""
        now = self._clock.utc()
        over = [row.value for row in self.join_tokens.rows.values() if is_over(row.value, now)]
        for token in over:
            async with recording(end_of_join_token(token)):
                await self.remove_record(JOIN_TOKENS, token.token_id, lambda: None)
        return [token.token_id for token in over]

    async def _end_api_key(self, old: Row[ApiKeyRecord], new: ApiKeyRecord | None) -> None:
        """Write what is left of a key; None = nothing."""
        if new is not None:
            await self._put_api_key(old.value, new, revision=old.revision)
            return
        key_id = old.value.key_id
        await self._api_keys_bucket.delete(key_id, revision=old.revision)
        self._note(API_KEYS, key_id, old.value, None)
        await self._settle_removal(self.api_keys, key_id)
        await self._router_sight.wait(API_KEYS, key_id, 0)

    def _endpoint_records(self) -> Iterator[EndpointRecord]:
        return (row.value for row in self.endpoints.rows.values())

    def _own_api_key(self, key_id: str) -> Row[ApiKeyRecord]:
        if key_id == ADMIN_KEY_ID:
            raise ApiKeyFixedError
        self.find_api_key(key_id)
        return self.api_keys.rows[key_id]

    async def _put_api_key(
        self, old: ApiKeyRecord | None, new: ApiKeyRecord, *, revision: int | None
    ) -> None:
        key_id = new.key_id
        written = await self._api_keys_bucket.put(key_id, new.encode(), revision=revision)
        self._note(API_KEYS, key_id, old, new)
        await self._settle(self.api_keys, key_id, written)
        await self._router_sight.wait(API_KEYS, key_id, written)

    async def put_admin_key(self, sha256: str, recording: Recording) -> None:
        """Have an administrator's key with this hash; the one before is gone.

        Raises:
            PenstockError: NATS is away, or timed out.
        """
        row = self.api_keys.rows.get(ADMIN_KEY_ID)
        record = ApiKeyRecord(
            key_id=ADMIN_KEY_ID, sha256=sha256, scope="admin", created_at=self._clock.utc()
        )
        if row is None:  # the installation begins
            await self._put_api_key(None, record, revision=None)
        elif row.value.sha256 != sha256 or row.value.scope != "admin":
            async with recording(other_admin_key(row.value, row.revision)):
                await self._put_api_key(row.value, record, revision=None)

    def _check_app_name(self, record: EndpointRecord) -> None:
        if not self.endpoints.synced:
            raise BusDisconnectedError("the list of endpoints is not current; try again")
        check_app_name_free(record, self._endpoint_records())


def _encode(record: EndpointRecord) -> bytes:
    data = record.encode()
    if len(data) > MAX_RECORD_BYTES:
        raise DocumentTooLargeError
    return data
