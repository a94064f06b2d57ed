"""API keys: their records, what they show, and what their quotas forbid [pure]."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import ClassVar, Final

from penstock_client.documents import ApiKeyDocument
from penstock_common.api_keys import ApiKeyChange, ApiKeyRotation, ApiKeySpec
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem
from penstock_common.messages import ApiKeyRecord, EndpointRecord, WorkerAssignment, WorkerStatus
from penstock_common.states import ENDED

#: A key that has expired is shown for so long.
EXPIRED_KEPT: Final = timedelta(days=7)


class ApiKeyNotFoundError(PenstockError):
    """There is no such API key."""

    error_type: ClassVar[str] = "api_key_not_found"
    status_hint: ClassVar[int] = 404


class ApiKeyFixedError(PenstockError):
    """This is the administrator's key from its file; change the file instead."""

    error_type: ClassVar[str] = "api_key_fixed"
    status_hint: ClassVar[int] = 409


class ApiKeyEndedError(PenstockError):
    """This API key is revoked or has expired; make a new one."""

    error_type: ClassVar[str] = "api_key_ended"
    status_hint: ClassVar[int] = 409


def plan_key(
    spec: ApiKeySpec, *, key_id: str, sha256: str, endpoint_ids: tuple[str, ...], now: datetime
) -> ApiKeyRecord:
    """The record of a new key with this hash, which may call these endpoints (empty = all).

    Raises:
        InvalidDocumentError: it would have expired already.
    """
    return ApiKeyRecord(
        key_id=key_id,
        name=spec.name,
        sha256=sha256,
        scope=spec.scope,
        endpoint_ids=endpoint_ids,
        max_workers=spec.max_workers,
        max_gpus=spec.max_gpus,
        created_at=now,
        expires_at=_expiry(spec, now),
    )


def _expiry(document: ApiKeySpec | ApiKeyChange, now: datetime) -> datetime | None:
    if document.expires_in_s is not None:
        return now + timedelta(seconds=document.expires_in_s)
    if document.expires_at is not None and document.expires_at <= now:
        raise InvalidDocumentError([Problem("/expires_at", "lies in the past")])
    return document.expires_at


def plan_key_change(record: ApiKeyRecord, change: ApiKeyChange, *, now: datetime) -> ApiKeyRecord:
    """The record with what the change names; `record` itself when that is nothing new.

    Raises:
        ApiKeyEndedError: it is to expire at another time, and is revoked.
        InvalidDocumentError: it would have expired already.
    """
    named = {name: getattr(change, name) for name in change.model_fields_set}
    if named.keys() & {"expires_at", "expires_in_s"}:
        if record.revoked_at is not None:
            raise ApiKeyEndedError
        named.pop("expires_in_s", None)
        named["expires_at"] = _expiry(change, now)
    changed = record.model_copy(update=named)
    return record if changed == record else changed


def plan_rotation(
    record: ApiKeyRecord, rotation: ApiKeyRotation, *, sha256: str, now: datetime
) -> ApiKeyRecord:
    """The same key with a new secret of this hash; the one before opens for as long as is said.

    A secret that was rotated away earlier opens nothing from now on.

    Raises:
        ApiKeyEndedError: the key is revoked or has expired.
    """
    if record.revoked_at is not None or (
        record.expires_at is not None and record.expires_at <= now
    ):
        raise ApiKeyEndedError
    stays_s = rotation.old_expires_in_s
    return record.model_copy(
        update={
            "sha256": sha256,
            "old_sha256": record.sha256 if stays_s else "",
            "old_expires_at": now + timedelta(seconds=stays_s) if stays_s else None,
        }
    )


def plan_revocation(
    record: ApiKeyRecord, endpoints: Iterable[EndpointRecord], *, now: datetime
) -> ApiKeyRecord | None:
    """The key without its hash, for the quota of the endpoints it has made; None = it has none."""
    if not any(endpoint.owner == record.key_id for endpoint in endpoints):
        return None
    revoked = {"sha256": "", "old_sha256": "", "old_expires_at": None}
    return record.model_copy(update={**revoked, "revoked_at": record.revoked_at or now})


def plan_cleanup(
    record: ApiKeyRecord, endpoints: Iterable[EndpointRecord], *, now: datetime
) -> ApiKeyRecord | None:
    """What is to be left of a key: itself, less of it, or None = nothing.

    One that expired long ago ends like a revoked one, and a revoked one is of no use once the
    endpoints that it has made are gone.
    """
    ended = record.revoked_at or record.expires_at
    if ended is None or (record.revoked_at is None and ended + EXPIRED_KEPT > now):
        return record
    left = plan_revocation(record, endpoints, now=ended)
    return record if left == record else left


def check_quota(endpoint: EndpointRecord, key: ApiKeyRecord | None) -> None:
    """Nothing, when the endpoint alone could be kept within the quota of its owner.

    Raises:
        InvalidDocumentError: not one of its workers could ever start, or not those that it keeps.
    """
    if key is None:
        return
    spec = endpoint.spec
    least = max(spec.workers.min, *(w.min for w in spec.scaling.schedule), 0)
    each = spec.gpu.count
    who = f"API key {key.key_id} may hold"
    problems = []
    if key.max_workers is not None and least > key.max_workers:
        told = f"{least} workers would be kept, and {who} {key.max_workers}"
        problems.append(Problem("/workers/min", told))
    if key.max_gpus is not None and each > key.max_gpus:
        told = f"a worker needs {each} GPUs, and {who} {key.max_gpus}"
        problems.append(Problem("/gpu/count", told))
    elif key.max_gpus is not None and least * each > key.max_gpus:
        told = f"{least} workers would keep {least * each} GPUs, and {who} {key.max_gpus}"
        problems.append(Problem("/workers/min", told))
    if problems:
        raise InvalidDocumentError(problems)


def key_document(
    record: ApiKeyRecord,
    held: Iterable[tuple[WorkerAssignment, WorkerStatus | None]],
    last_used_at: datetime | None,
) -> ApiKeyDocument:
    """A key as the api shows it.

    Args:
        record: of the key.
        held: every worker that is assigned, with what its node says.
        last_used_at: None = never, as far as is known.
    """
    mine = [
        assignment
        for assignment, status in held
        if assignment.owner == record.key_id and (status is None or status.state not in ENDED)
    ]
    return ApiKeyDocument(
        id=record.key_id,
        name=record.name,
        scope=record.scope,
        endpoint_ids=record.endpoint_ids,
        max_workers=record.max_workers,
        max_gpus=record.max_gpus,
        workers=len(mine),
        gpus=sum(len(assignment.gpus) for assignment in mine),
        created_at=record.created_at,
        last_used_at=last_used_at,
        revoked_at=record.revoked_at,
        expires_at=record.expires_at,
        old_expires_at=record.old_expires_at,
    )
