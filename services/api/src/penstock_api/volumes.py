"""Network volumes: what is known of them and who uses them, and their writes."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from penstock_api.store import Store
from penstock_common.errors import PenstockError
from penstock_common.messages import VolumeRecord
from penstock_common.specs import EndpointSpec
from penstock_common.subjects import VOLUMES
from penstock_common.volumes import VolumePatch, VolumeSpec


class VolumeNotFoundError(PenstockError):
    """There is no such volume."""

    error_type: ClassVar[str] = "volume_not_found"
    status_hint: ClassVar[int] = 404


class VolumeInUseError(PenstockError):
    """An endpoint or a worker uses this volume; change the endpoint first."""

    error_type: ClassVar[str] = "volume_in_use"
    status_hint: ClassVar[int] = 409


def new_volume(volume_id: str, spec: VolumeSpec, *, now: datetime) -> VolumeRecord:
    """The record of a volume that is made now."""
    return VolumeRecord(
        volume_id=volume_id,
        name=spec.name,
        source=spec.source,
        node_selector=spec.node_selector,
        size_gb=spec.size_gb,
        created_at=now,
        updated_at=now,
    )


def all_volumes(store: Store) -> list[VolumeRecord]:
    """All volumes, the oldest first."""
    records = (row.value for row in store.volumes.rows.values())
    return sorted(records, key=lambda record: (record.created_at, record.volume_id))


def find_volume(store: Store, volume_id: str) -> VolumeRecord:
    """The volume with this id.

    Raises:
        VolumeNotFoundError: there is none.
    """
    row = store.volumes.rows.get(volume_id)
    if row is None:
        raise VolumeNotFoundError(f"there is no volume '{volume_id}'")
    return row.value


async def create_volume(store: Store, record: VolumeRecord) -> None:
    """Store a new volume.

    Raises:
        PenstockError: NATS is away, or timed out: then it may or may not have been stored.
    """
    await store.create_record(VOLUMES, record.volume_id, record)


async def change_volume(
    store: Store, volume_id: str, patch: VolumePatch, *, now: datetime
) -> VolumeRecord:
    """Change a volume; gives it as it is then. A patch that changes nothing writes nothing.

    Raises:
        PenstockError: `VolumeNotFoundError`; NATS is away or timed out, in which case the change
            may or may not have been made.
    """

    def plan(data: bytes | None) -> VolumeRecord | None:
        if data is None:
            raise VolumeNotFoundError(f"there is no volume '{volume_id}'")
        old = VolumeRecord.decode(data)
        new = old.model_copy(update=patch.model_dump(exclude_unset=True))
        return None if new == old else new.model_copy(update={"updated_at": now})

    find_volume(store, volume_id)  # what no volume is called may be no key either
    changed = await store.change_record(VOLUMES, volume_id, plan)
    return changed or find_volume(store, volume_id)


async def remove_volume(store: Store, volume_id: str) -> VolumeRecord:
    """Remove a volume that nothing uses; its data stay where they lie. Gives what it was.

    Raises:
        PenstockError: `VolumeNotFoundError`; `VolumeInUseError`; NATS is away or timed out, in
            which case it may or may not be gone.
    """
    removed: list[VolumeRecord] = []

    def check() -> None:
        removed[:] = [find_volume(store, volume_id)]
        _check_unused(store, volume_id)

    await store.remove_record(VOLUMES, volume_id, check)
    return removed[0]


def users_of(store: Store) -> Callable[[str], tuple[str, ...]]:
    """Gives, for a volume's id, the `app_name`s of the endpoints that name it, in order."""
    named: dict[str, set[str]] = {}
    for row in store.endpoints.rows.values():
        for volume in (v for spec in row.value.specs for v in spec.storage.network_volumes):
            named.setdefault(volume.id, set()).add(row.value.spec.app_name)
    return lambda volume_id: tuple(sorted(named.get(volume_id, ())))


def missing_volumes(store: Store, spec: EndpointSpec) -> list[str]:
    """Ids that the document names and no volume has."""
    return [v.id for v in spec.storage.network_volumes if v.id not in store.volumes.rows]


def _check_unused(store: Store, volume_id: str) -> None:
    endpoints = users_of(store)(volume_id)
    if endpoints:
        raise VolumeInUseError(
            f"endpoint '{endpoints[0]}' uses '{volume_id}'; change the endpoint first"
        )
    for worker in store.assignments().values():  # of an older revision, perhaps
        if _uses(worker.spec, volume_id):
            raise VolumeInUseError(
                f"worker {worker.worker_id} still uses '{volume_id}'; try again once it has stopped"
            )


def _uses(spec: EndpointSpec, volume_id: str) -> bool:
    return any(volume.id == volume_id for volume in spec.storage.network_volumes)
