"""Registry auths: what is known of them and who pulls with them, and their writes."""

from typing import ClassVar

from penstock_api.store import Store
from penstock_common.errors import PenstockError
from penstock_common.messages import RegistryAuthRecord
from penstock_common.subjects import REGISTRY_AUTHS


class RegistryAuthNotFoundError(PenstockError):
    """There is no such registry auth."""

    error_type: ClassVar[str] = "registry_auth_not_found"
    status_hint: ClassVar[int] = 404


class RegistryAuthInUseError(PenstockError):
    """An endpoint pulls with this registry auth; change the endpoint first."""

    error_type: ClassVar[str] = "registry_auth_in_use"
    status_hint: ClassVar[int] = 409


def find_registry_auth(store: Store, registry_auth_id: str) -> RegistryAuthRecord:
    """The registry auth with this id.

    Raises:
        RegistryAuthNotFoundError: there is none.
    """
    row = store.registry_auths.rows.get(registry_auth_id)
    if row is None:
        raise RegistryAuthNotFoundError(f"there is no registry auth '{registry_auth_id}'")
    return row.value


async def create_registry_auth(store: Store, record: RegistryAuthRecord) -> None:
    """Store a new registry auth.

    Raises:
        PenstockError: NATS is away, or timed out: then it may or may not have been stored.
    """
    await store.create_record(REGISTRY_AUTHS, record.registry_auth_id, record)


async def remove_registry_auth(store: Store, registry_auth_id: str) -> RegistryAuthRecord:
    """Remove a registry auth that nothing names; gives what it was.

    Raises:
        PenstockError: `RegistryAuthNotFoundError`; `RegistryAuthInUseError`; NATS is away or
            timed out, in which case it may or may not be gone.
    """
    removed: list[RegistryAuthRecord] = []

    def check() -> None:
        removed[:] = [find_registry_auth(store, registry_auth_id)]
        for row in store.endpoints.rows.values():
            if any(s.image.registry_auth_id == registry_auth_id for s in row.value.specs):
                raise RegistryAuthInUseError(
                    f"endpoint '{row.value.spec.app_name}' pulls with '{registry_auth_id}'; "
                    "change the endpoint first"
                )
        for template_id, template in store.templates.rows.items():
            if template.value.registry_auth_id == registry_auth_id:
                raise RegistryAuthInUseError(
                    f"template '{template_id}' pulls with '{registry_auth_id}'; change it first"
                )
        for prewarm_id, prewarm in store.prewarms.rows.items():
            if prewarm.value.registry_auth_id == registry_auth_id:
                raise RegistryAuthInUseError(
                    f"prewarm '{prewarm_id}' pulls with '{registry_auth_id}'; delete it first"
                )

    await store.remove_record(REGISTRY_AUTHS, registry_auth_id, check)
    return removed[0]
