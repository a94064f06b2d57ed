"""What the watched tables say, indexed for the router: endpoints, their workers, keys.

Plain data without I/O. Each `put_*` takes a row as a table reports it (None = the key is gone) and
gives the ids of the endpoints that it concerns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    EndpointStatus,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_common.states import DesiredState, WorkerState
from penstock_router.keys import KnownKey, index_keys


class Address(NamedTuple):
    """Where a worker listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker: what the scheduler wants of it and what its node agent says."""

    assignment: WorkerAssignment
    #: revision of the assignment in KV
    revision: int
    status: WorkerStatus | None = None
    #: revision of the status in KV; 0 = there is none
    status_revision: int = 0

    @property
    def address(self) -> Address | None:
        """Where it listens; None while it does not run."""
        status = self.status
        if status is None or status.state is not WorkerState.RUNNING:
            return None
        if status.host is None or status.port is None:
            return None
        return Address(status.host, status.port)

    @property
    def takes_requests(self) -> bool:
        """Whether it runs and is wanted to."""
        return self.assignment.desired is DesiredState.RUNNING and self.address is not None


class Catalogue:
    """The rows that a router acts on."""

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointRecord] = {}
        self._by_app: dict[str, dict[str, EndpointRecord]] = {}
        self._found: dict[str, EndpointRecord] = {}  # the one of each name that is meant
        self._statuses: dict[str, EndpointStatus] = {}
        self._assignments: dict[str, tuple[WorkerAssignment, int]] = {}
        self._worker_statuses: dict[str, tuple[WorkerStatus, int]] = {}
        self._worker_keys: dict[str, set[str]] = {}  # endpoint → keys of its assignments
        self._keys: dict[str, ApiKeyRecord] = {}
        self._keys_by_hash: dict[str, KnownKey] = {}
        self._used_keys: set[str] = set()  # of what has changed since it was used

    # ---- what it knows

    @property
    def keys_by_hash(self) -> Mapping[str, KnownKey]:
        """API keys by their SHA-256, those that have expired included."""
        return self._keys_by_hash

    def take_used_keys(self) -> set[str]:
        """Ids of the API keys that requests came with since the last call."""
        used, self._used_keys = self._used_keys, set()
        for known in self._keys_by_hash.values():
            if known.used:
                known.used = False
                used.add(known.record.key_id)
        return used

    def endpoint(self, endpoint_id: str) -> EndpointRecord | None:
        """The endpoint with this id."""
        return self._endpoints.get(endpoint_id)

    def find_app(self, app_name: str) -> EndpointRecord | None:
        """The endpoint of this name; of several, one that is not being deleted."""
        return self._found.get(app_name)

    def status(self, endpoint_id: str) -> EndpointStatus | None:
        """What the scheduler last said of an endpoint."""
        return self._statuses.get(endpoint_id)

    def workers(self, endpoint_id: str) -> Iterable[WorkerView]:
        """Every assigned worker of an endpoint."""
        for key in self._worker_keys.get(endpoint_id, ()):
            assignment, revision = self._assignments[key]
            status, status_revision = self._worker_statuses.get(key, (None, 0))
            yield WorkerView(assignment, revision, status, status_revision)

    def worker_ids(self) -> frozenset[str]:
        """Every assigned worker."""
        return frozenset(a.worker_id for a, _ in self._assignments.values())

    def runs(self, endpoint_id: str) -> bool:
        """Whether any worker of the endpoint runs, whoever drives it."""
        return any(view.takes_requests for view in self.workers(endpoint_id))

    # ---- rows

    def put_endpoint(self, key: str, record: EndpointRecord | None) -> tuple[str, ...]:
        """A row of ENDPOINTS."""
        old = self._endpoints.pop(key, None)
        if old is not None:
            named = self._by_app[old.spec.app_name]
            del named[key]
            self._find(old.spec.app_name)
        if record is not None:
            self._endpoints[key] = record
            self._by_app.setdefault(record.spec.app_name, {})[key] = record
            self._find(record.spec.app_name)
        return (key,)

    def _find(self, app_name: str) -> None:
        named = self._by_app[app_name]
        if named:
            self._found[app_name] = min(
                named.values(), key=lambda r: (r.deleted_at is not None, r.created_at)
            )
        else:
            del self._by_app[app_name], self._found[app_name]

    def put_status(self, key: str, status: EndpointStatus | None) -> tuple[str, ...]:
        """A row of ENDPOINT_STATUS."""
        if status is None:
            self._statuses.pop(key, None)
        else:
            self._statuses[key] = status
        return (key,)

    def put_assignment(
        self, key: str, assignment: WorkerAssignment | None, revision: int
    ) -> tuple[str, ...]:
        """A row of WORKERS. One of a deposed leader (a lower fencing token) changes nothing."""
        old = self._assignments.get(key)
        if old and assignment and assignment.fencing_token < old[0].fencing_token:
            return ()
        concerned = []
        if old is not None:
            del self._assignments[key]
            endpoint_id = old[0].endpoint_id
            self._worker_keys[endpoint_id].discard(key)
            if not self._worker_keys[endpoint_id]:
                del self._worker_keys[endpoint_id]
            concerned.append(endpoint_id)
        if assignment is not None:
            self._assignments[key] = (assignment, revision)
            self._worker_keys.setdefault(assignment.endpoint_id, set()).add(key)
            concerned.append(assignment.endpoint_id)
        return tuple(dict.fromkeys(concerned))

    def put_worker_status(
        self, key: str, status: WorkerStatus | None, revision: int
    ) -> tuple[str, ...]:
        """A row of WORKER_STATUS."""
        if status is None:
            self._worker_statuses.pop(key, None)
        else:
            self._worker_statuses[key] = (status, revision)
        assigned = self._assignments.get(key)
        return (assigned[0].endpoint_id,) if assigned else ()

    def put_key(self, key: str, record: ApiKeyRecord | None) -> tuple[str, ...]:
        """A row of API_KEYS."""
        old = self._keys.pop(key, None)
        for sha256 in old.hashes() if old is not None else ():
            known = self._keys_by_hash.pop(sha256, None)
            if known is not None and known.used:
                self._used_keys.add(key)
        if record is not None:
            self._keys[key] = record
            self._keys_by_hash |= index_keys((record,))
        return ()
