"""Who may do what: bearer keys, checked against the watched table of their hashes."""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final, Protocol

from aiohttp import hdrs, web

from penstock_api.problems import RefusedError
from penstock_api.routes.route import Scope
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.messages import ApiKeyRecord, EndpointRecord

#: Id of the key from `admin_key_file`; a new key in the file takes the old one's place.
ADMIN_KEY_ID: Final = "key-admin"
#: A key of fewer characters than this could be guessed.
MIN_KEY_LENGTH: Final = 24

#: Challenge to a key that is not good (RFC 6750, §3).
_INVALID: Final = 'Bearer error="invalid_token"'
#: What a key may do, by its scope.
_GRANTED: Final[dict[str, frozenset[Scope]]] = {
    "admin": frozenset({"read", "deploy", "admin"}),
    "deploy": frozenset({"read", "deploy"}),
    "read": frozenset({"read"}),
    "invoke": frozenset(),
}


class Caller(Protocol):
    """Who asks: an API key's record, or whoever NATS has let in."""

    @property
    def key_id(self) -> str | None:
        """Owner of what it makes; None = nobody's."""

    @property
    def scope(self) -> str:
        """What it may do; with `admin` also to what is another's."""


class KeyExpiredError(RefusedError):
    """The API key was good until it expired."""

    error_type: ClassVar[str] = "expired_api_key"

    def __init__(self, record: ApiKeyRecord, ended_at: datetime) -> None:
        """The key of `record` opens nothing since `ended_at`."""
        super().__init__(
            401,
            self.error_type,
            f"API key {record.key_id} expired at {ended_at:%Y-%m-%dT%H:%M:%SZ}; ask for a new one",
            headers={"WWW-Authenticate": _INVALID},
        )
        self.record = record


class RightMissingError(RefusedError):
    """The API key has not the right that this asks for."""

    error_type: ClassVar[str] = "forbidden"

    def __init__(self, record: ApiKeyRecord, scope: Scope) -> None:
        """The key of `record` lacks `scope`."""
        super().__init__(403, self.error_type, f"this needs an API key with the right '{scope}'")
        self.record = record


def hash_key(key: str) -> str:
    """How a key is stored: SHA-256 in hex; 256 random bits need no slower hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_admin_key(path: Path | None) -> str:
    """The administrator's key in this file.

    Raises:
        MisconfiguredError: there is none, or one that is too short.
    """
    if path is None:
        raise MisconfiguredError("PENSTOCK_API_ADMIN_KEY_FILE is not set: name the key's file")
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MisconfiguredError(f"the admin key cannot be read: {error}") from None
    if len(key) < MIN_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise MisconfiguredError(
            f"{path} holds no usable key: write {MIN_KEY_LENGTH} or more random letters and digits"
        )
    return key


def authorize(
    request: web.Request, scope: Scope, keys: Iterable[ApiKeyRecord], now: datetime
) -> ApiKeyRecord | None:
    """The request's key, which may do this; None on a route that asks for none.

    Args:
        request: carries the key as `Authorization: Bearer <key>`.
        scope: what the route asks for.
        keys: all keys that exist.
        now: the present instant, for those that expire.

    Raises:
        RefusedError: 401 without a known key or with one that has expired (`KeyExpiredError`), 403
            with one of too little right (`RightMissingError`).
    """
    if scope == "open":
        return None
    scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise _unauthorized("Bearer", "send an API key as Authorization: Bearer <key>")
    digest = hash_key(key.strip())
    known = [
        record
        for record in keys
        if hmac.compare_digest(record.sha256, digest)
        or hmac.compare_digest(record.old_sha256, digest)
    ]
    if not known:
        raise _unauthorized(_INVALID, "this API key is not known")
    opening = [record for record in known if not _ended(record, digest, now)]
    if not opening:
        raise KeyExpiredError(known[0], known[0].hashes()[digest] or now)
    for record in opening:
        if scope in _GRANTED[record.scope]:
            return record
    raise RightMissingError(opening[0], scope)


def _ended(record: ApiKeyRecord, digest: str, now: datetime) -> bool:
    ends_at = record.hashes().get(digest)
    return ends_at is not None and ends_at <= now


def check_right(caller: ApiKeyRecord, scope: Scope) -> None:
    """Nothing, when this caller has this right.

    Raises:
        RightMissingError: 403: it has not.
    """
    if scope not in _GRANTED[caller.scope]:
        raise RightMissingError(caller, scope)


def check_owner(caller: Caller, endpoint: EndpointRecord) -> None:
    """Nothing, when this caller may change the endpoint.

    Raises:
        RefusedError: 403: it is another key's.
    """
    if caller.scope != "admin" and endpoint.owner != caller.key_id:
        raise RefusedError(403, "forbidden", "this endpoint was made with another API key")


def _unauthorized(challenge: str, detail: str) -> RefusedError:
    return RefusedError(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
