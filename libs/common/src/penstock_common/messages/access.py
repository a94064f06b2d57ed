"""Who may do what: API keys, and credentials of image registries."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class ApiKeyRecord(Message):
    """A key's hash and rights. Bucket API_KEYS; written by the api."""

    key_id: str
    #: SHA-256 of the key, hex; keys have 256 random bits, so no slow hash is needed
    sha256: str
    scope: Literal["admin", "read", "invoke"]
    #: for `invoke`: the endpoints it may call; empty = all
    endpoint_ids: tuple[str, ...] = ()
    created_at: AwareDatetime


class RepeatRecord(Message):
    """A POST that may be sent again. Bucket REPEATS, expiring; written by the api."""

    #: SHA-256 of its body, hex
    fingerprint: str
    #: its answer, sealed; null = it is under way
    sealed: Mapping[str, str] | None = None


class RegistryAuthRecord(Message):
    """Credentials of an image registry. Bucket REGISTRY_AUTHS; written by the api."""

    registry_auth_id: str
    #: for people
    name: str
    username: str
    #: `password`, sealed; only node agents open it
    sealed: Mapping[str, str]
    created_at: AwareDatetime
