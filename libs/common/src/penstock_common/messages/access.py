"""Who may do what: API keys, and credentials of image registries."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message

#: `admin`: everything; `deploy`: makes endpoints and changes its own; `read`: sees everything;
#: `invoke`: calls endpoints.
KeyScope = Literal["admin", "deploy", "read", "invoke"]


class ApiKeyRecord(Message):
    """A key's hash and rights. Bucket API_KEYS; written by the api."""

    key_id: str
    #: for people
    name: str = ""
    #: SHA-256 of the key, hex; keys have 256 random bits, so no slow hash is needed; empty =
    #: revoked, kept for the endpoints that it owns
    sha256: str
    scope: KeyScope
    #: for `invoke`: the endpoints it may call; empty = all
    endpoint_ids: tuple[str, ...] = ()
    #: most workers and GPUs that the endpoints it has made may hold, all together; null = any number
    max_workers: int | None = None
    max_gpus: int | None = None
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None


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
