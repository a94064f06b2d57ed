"""Who may call an endpoint: the API keys as a dictionary, looked up by their hash."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from penstock_common.messages import ApiKeyRecord, EndpointRecord
from penstock_router.admission import Refusal

NO_KEY: Final = Refusal(
    401, "missing_api_key", "This endpoint asks for an API key: send Authorization: Bearer <key>."
)
WRONG_KEY: Final = Refusal(401, "invalid_api_key", "There is no such API key.")
EXPIRED_KEY: Final = Refusal(401, "expired_api_key", "This API key has expired: ask for a new one.")
NO_RIGHT: Final = Refusal(403, "forbidden", "This API key has no right to call this endpoint.")
NO_KEY_TO_READ: Final = Refusal(
    401, "missing_api_key", "This page asks for an API key: send Authorization: Bearer <key>."
)
NO_RIGHT_TO_READ: Final = Refusal(
    403, "forbidden", "This page asks for an API key of scope read or admin."
)


@dataclass(slots=True)
class KnownKey:
    """What a secret opens."""

    record: ApiKeyRecord
    #: from then on nothing; None = it does not expire
    ends_at: datetime | None
    #: a request came with it since this was last taken back; a flag, as requests come often
    used: bool = field(default=False, compare=False)


def index_keys(records: Iterable[ApiKeyRecord]) -> dict[str, KnownKey]:
    """The keys by their SHA-256, hex in lower case."""
    return {
        sha256: KnownKey(record, ends_at)
        for record in records
        for sha256, ends_at in record.hashes().items()
    }


def check_key(
    keys: Mapping[str, KnownKey],
    authorization: str | None,
    endpoint: EndpointRecord,
    now: datetime,
) -> Refusal | None:
    """Why this caller may not call the endpoint; None = it may.

    Args:
        keys: from `index_keys`.
        authorization: the `Authorization` field; None when there is none.
        endpoint: what is called; a public one asks for no key.
        now: the present instant.
    """
    if endpoint.spec.public:
        return None
    return check_hash(keys, hash_key(authorization), endpoint, now)


def hash_key(authorization: str | None) -> str:
    """SHA-256 of the key in an `Authorization` field, hex; empty when there is no key in it."""
    if authorization is None:
        return ""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        return ""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def check_reader(keys: Mapping[str, KnownKey], key_hash: str, now: datetime) -> Refusal | None:
    """Why the sender of the key with this hash may not read of all endpoints; None = it may."""
    if not key_hash:
        return NO_KEY_TO_READ
    known = _find(keys, key_hash, now)
    if isinstance(known, Refusal):
        return known
    return None if known.scope in ("admin", "read") else NO_RIGHT_TO_READ


def check_hash(
    keys: Mapping[str, KnownKey], key_hash: str, endpoint: EndpointRecord, now: datetime
) -> Refusal | None:
    """As `check_key`, for an endpoint that is not public and the hash of what was sent."""
    if not key_hash:
        return NO_KEY
    record = _find(keys, key_hash, now)
    if isinstance(record, Refusal):
        return record
    match record.scope:
        case "admin":
            return None
        case "invoke" if not record.endpoint_ids or endpoint.endpoint_id in record.endpoint_ids:
            return None
        case "deploy" if endpoint.owner == record.key_id:
            return None
        case _:
            return NO_RIGHT


def _find(keys: Mapping[str, KnownKey], key_hash: str, now: datetime) -> ApiKeyRecord | Refusal:
    # The lookup's time depends on the hash only, of which a guesser learns nothing usable.
    known = keys.get(key_hash)
    if known is None:
        return WRONG_KEY
    if known.ends_at is not None and known.ends_at <= now:
        return EXPIRED_KEY
    known.used = True
    return known.record
