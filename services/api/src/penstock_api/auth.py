"""Who may do what: bearer keys, checked against the watched table of their hashes."""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from aiohttp import hdrs, web

from penstock_api.problems import RefusedError
from penstock_api.routes.route import Scope
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.messages import ApiKeyRecord, EndpointRecord

#: Id of the key from `admin_key_file`; a new key in the file takes the old one's place.
ADMIN_KEY_ID: Final = "key-admin"
#: A key of fewer characters than this could be guessed.
MIN_KEY_LENGTH: Final = 24

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
    request: web.Request, scope: Scope, keys: Iterable[ApiKeyRecord]
) -> ApiKeyRecord | None:
    """The request's key, which may do this; None on a route that asks for none.

    Args:
        request: carries the key as `Authorization: Bearer <key>`.
        scope: what the route asks for.
        keys: all keys that exist.

    Raises:
        RefusedError: 401 without a known key, 403 with one of too little right.
    """
    if scope == "open":
        return None
    scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise _unauthorized("Bearer", "send an API key as Authorization: Bearer <key>")
    digest = hash_key(key.strip())
    known = [record for record in keys if hmac.compare_digest(record.sha256, digest)]
    if not known:
        raise _unauthorized('Bearer error="invalid_token"', "this API key is not known")
    for record in known:
        if scope in _GRANTED[record.scope]:
            return record
    raise _forbidden(scope)


def check_right(caller: ApiKeyRecord, scope: Scope) -> None:
    """Nothing, when this caller has this right.

    Raises:
        RefusedError: 403: it has not.
    """
    if scope not in _GRANTED[caller.scope]:
        raise _forbidden(scope)


def check_owner(caller: Caller, endpoint: EndpointRecord) -> None:
    """Nothing, when this caller may change the endpoint.

    Raises:
        RefusedError: 403: it is another key's.
    """
    if caller.scope != "admin" and endpoint.owner != caller.key_id:
        raise RefusedError(403, "forbidden", "this endpoint was made with another API key")


def _forbidden(scope: Scope) -> RefusedError:
    return RefusedError(403, "forbidden", f"this needs an API key with the right '{scope}'")


def _unauthorized(challenge: str, detail: str) -> RefusedError:
    return RefusedError(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
