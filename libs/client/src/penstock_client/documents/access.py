"""API keys, join tokens, and credentials of image registries."""

from collections.abc import Mapping

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
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


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
    #: when a request last came with it, to a minute or so; null = never, as far as is known
    last_used_at: AwareDatetime | None
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
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


class JoinedHostDocument(Document):
    """A host that joined with a token."""

    at: AwareDatetime
    #: what it calls itself
    hostname: str
    #: address that it asked from
    address: str


class JoinTokenDocument(Document):
    """A join token; the token itself is shown once, when it is made."""

    id: str
    name: str
    #: of the nodes that join with it, beside their own
    labels: Mapping[str, str]
    #: so many hosts join with it at most, and so many have
    max_uses: int
    uses: int
    #: those that joined with it, the last ones
    hosts: tuple[JoinedHostDocument, ...]
    created_at: AwareDatetime
    #: nobody joins with it from then on
    expires_at: AwareDatetime
    #: id of the API key that made it
    made_by: str


class JoinTokenMade(JoinTokenDocument):
    """A join token that was just made."""

    #: what a host shows to become a node; shown this once
    token: str


class JoinTokenList(Document):
    """The join tokens, oldest first."""

    join_tokens: tuple[JoinTokenDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None
