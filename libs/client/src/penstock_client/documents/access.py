"""API keys, and credentials of image registries."""

from pydantic import AwareDatetime

from penstock_client.documents.base import Document
from penstock_common.messages import (
    KeyScope,
)


class RegistryAuthDocument(Document):
    """Credentials of an image registry; the password is never shown."""

    id: str
    name: str
    username: str
    created_at: AwareDatetime


class RegistryAuthList(Document):
    """The registry auths, oldest first."""

    registry_auths: tuple[RegistryAuthDocument, ...]


class ApiKeyDocument(Document):
    """An API key; the key itself is shown once, when it is made."""

    id: str
    name: str
    scope: KeyScope
    #: for `invoke`: the endpoints it may call; empty = all
    endpoint_ids: tuple[str, ...]
    #: most workers and GPUs that its endpoints may hold, all together; null = any number
    max_workers: int | None
    max_gpus: int | None
    #: what its endpoints hold now, workers that start, drain or stop included
    workers: int
    gpus: int
    created_at: AwareDatetime
    #: set = it opens nothing any more, and stays for the quota of the endpoints it has made
    revoked_at: AwareDatetime | None
    #: from then on it opens nothing; null = it does not expire
    expires_at: AwareDatetime | None = None
    #: until then the secret opens that it had before it was rotated; null = there is none
    old_expires_at: AwareDatetime | None = None


class ApiKeyMade(ApiKeyDocument):
    """A key that was just made."""

    #: what to send as `Authorization: Bearer <key>`; shown this once
    key: str


class ApiKeyList(Document):
    """The API keys, oldest first."""

    api_keys: tuple[ApiKeyDocument, ...]
