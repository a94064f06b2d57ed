"""Join tokens: their records, what they show, and who may join with one [pure]."""

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import ClassVar, Final

from penstock_client.documents import JoinedHostDocument, JoinTokenDocument
from penstock_common.errors import PenstockError
from penstock_common.join_tokens import JoinTokenSpec
from penstock_common.messages import JoinedHost, JoinTokenRecord

#: A token that has expired is shown for so long.
EXPIRED_KEPT: Final = timedelta(days=7)
#: Hosts that joined last, of which a record tells.
MAX_HOSTS: Final = 50


class JoinTokenNotFoundError(PenstockError):
    """There is no such join token."""

    error_type: ClassVar[str] = "join_token_not_found"
    status_hint: ClassVar[int] = 404


class JoinTokenExpiredError(PenstockError):
    """This join token has expired; ask for a new one (`penstock node join` makes one)."""

    error_type: ClassVar[str] = "join_token_expired"
    status_hint: ClassVar[int] = 403


class JoinTokenUsedUpError(PenstockError):
    """Hosts have joined with this token as often as it allows; ask for a new one."""

    error_type: ClassVar[str] = "join_token_used_up"
    status_hint: ClassVar[int] = 403


class JoinNotConfiguredError(PenstockError):
    """Other hosts cannot be told where NATS is: set PENSTOCK_API_NODE_NATS_URL for the api."""

    error_type: ClassVar[str] = "join_not_configured"
    status_hint: ClassVar[int] = 409


def plan_token(
    spec: JoinTokenSpec, *, token_id: str, sha256: str, made_by: str, now: datetime
) -> JoinTokenRecord:
    """The record of a new token with this hash, made by this API key."""
    return JoinTokenRecord(
        token_id=token_id,
        name=spec.name,
        sha256=sha256,
        labels=spec.labels,
        max_uses=spec.max_uses,
        created_at=now,
        expires_at=now + timedelta(seconds=spec.expires_in_s),
        made_by=made_by,
    )


def find_by_hash(records: Iterable[JoinTokenRecord], sha256: str) -> JoinTokenRecord | None:
    """The record of the token with this hash; every hash is compared in the same time."""
    found = None
    for record in records:
        if hmac.compare_digest(record.sha256, sha256):
            found = record
    return found


def plan_use(record: JoinTokenRecord, host: JoinedHost) -> JoinTokenRecord:
    """The record after this host has joined.

    Whoever shows the token knows it, and 256 bits are not guessed: so it may be told why it is of
    no use any more.

    Raises:
        JoinTokenExpiredError, JoinTokenUsedUpError: it may not join.
    """
    if host.at >= record.expires_at:
        raise JoinTokenExpiredError
    if record.uses >= record.max_uses:
        raise JoinTokenUsedUpError
    hosts = (*record.hosts, host)[-MAX_HOSTS:]
    return record.model_copy(update={"uses": record.uses + 1, "hosts": hosts})


def is_over(record: JoinTokenRecord, now: datetime) -> bool:
    """Whether the record is of no more interest to anybody."""
    return record.expires_at + EXPIRED_KEPT <= now


def token_document(record: JoinTokenRecord) -> JoinTokenDocument:
    """A token as the api shows it."""
    return JoinTokenDocument(
        id=record.token_id,
        name=record.name,
        labels=record.labels,
        max_uses=record.max_uses,
        uses=record.uses,
        hosts=tuple(
            JoinedHostDocument(at=host.at, hostname=host.hostname, address=host.address)
            for host in record.hosts
        ),
        created_at=record.created_at,
        expires_at=record.expires_at,
        made_by=record.made_by,
    )
