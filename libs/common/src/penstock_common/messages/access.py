"""Who may do what: API keys, and credentials of image registries."""

from collections.abc import Mapping
from datetime import datetime
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
    #: from then on it opens nothing; null = it does not expire
    expires_at: AwareDatetime | None = None
    #: the hash it had before it was rotated, and until when that one opens too; empty = none
    old_sha256: str = ""
    old_expires_at: AwareDatetime | None = None

    def hashes(self) -> dict[str, datetime | None]:
        """What opens with this record's rights: hash → from when on it does not; None = always."""
        found: dict[str, datetime | None] = {}
        if self.old_sha256:
            ends = [at for at in (self.old_expires_at, self.expires_at) if at is not None]
            found[self.old_sha256.lower()] = min(ends, default=None)
        if self.sha256:
            found[self.sha256.lower()] = self.expires_at
        return found


class JoinedHost(Message):
    """A host that joined with a token."""

    at: AwareDatetime
    #: what it calls itself
    hostname: str
    #: address that it asked from
    address: str


class JoinTokenRecord(Message):
    """Lets hosts become nodes. Bucket JOIN_TOKENS; written by the api."""

    token_id: str
    #: for people
    name: str = ""
    #: SHA-256 of the token, hex; tokens have 256 random bits, as API keys
    sha256: str
    #: of the nodes that join with it, beside their own
    labels: Mapping[str, str] = {}
    max_uses: int
    uses: int = 0
    #: those that joined with it, the last ones
    hosts: tuple[JoinedHost, ...] = ()
    created_at: AwareDatetime
    expires_at: AwareDatetime
    #: id of the API key that made it
    made_by: str


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
