"""What Penstock changes by itself, as the audit trail names it: by which service, and why [pure].

Of documents and keys alone. What follows from a change that somebody asked for (the record of a
deleted endpoint goes once its workers are gone, an order once it is carried out), and what services
see and do without changing a document (workers, GPUs that are left out), is told by events.
"""

from dataclasses import dataclass

from penstock_api.audit.changes import target_of
from penstock_common.events.catalogue import Service
from penstock_common.messages import (
    ApiKeyRecord,
    AuditTarget,
    EndpointRecord,
    JoinTokenRecord,
    WebhookRecord,
)


@dataclass(frozen=True, slots=True)
class OwnChange:
    """A change that nobody asks for."""

    #: names the change: the same for every api that would make it, so that it has one record
    audit_id: str
    #: who found that it is due
    by: Service
    #: the operation by which a person would make it, e.g. `endpoints_roll_back`
    action: str
    #: why it is made, for people
    why: str
    target: AuditTarget


def retreat(record: EndpointRecord, planned: EndpointRecord) -> OwnChange:
    """An endpoint goes back from a revision that the scheduler has found unable to start."""
    return OwnChange(
        audit_id=f"au-{record.endpoint_id}-{record.revision}",
        by=Service.SCHEDULER,
        action="endpoints_roll_back" if record.canary is None else "endpoints_abort",
        why=planned.revision_why or "",
        target=target_of("endpoint", record.endpoint_id, record),
    )


def end_of_key(record: ApiKeyRecord, left: ApiKeyRecord | None) -> OwnChange:
    """A key that expired long ago, or was revoked and owns nothing any more, is cleared away."""
    what = "revoked, and owns no endpoint any more" if record.revoked_at else "expired"
    if left is not None:
        what += "; kept without its secret for the endpoints that it has made"
    return OwnChange(
        audit_id=f"au-{record.key_id}-{'gone' if left is None else 'kept'}",
        by=Service.API,
        action="api_keys_delete",
        why=what,
        target=target_of("api_key", record.key_id, record),
    )


def end_of_join_token(record: JoinTokenRecord) -> OwnChange:
    """A join token that expired long ago is cleared away."""
    return OwnChange(
        audit_id=f"au-{record.token_id}-gone",
        by=Service.API,
        action="join_tokens_delete",
        why="expired",
        target=target_of("join_token", record.token_id, record),
    )


def other_admin_key(record: ApiKeyRecord, revision: int) -> OwnChange:
    """The administrator's key in its file is another one than at the last start.

    Args:
        record: of the key before.
        revision: of that record in KV, which tells one change of the file from the next.
    """
    return OwnChange(
        audit_id=f"au-{record.key_id}-{revision}",
        by=Service.API,
        action="api_keys_rotate",
        why="the file of the administrator's key holds another key",
        target=target_of("api_key", record.key_id, record),
    )


def gone_receiver(record: WebhookRecord) -> OwnChange:
    """A webhook is disabled, as its receiver has answered 410 Gone."""
    return OwnChange(
        audit_id=f"au-{record.webhook_id}-{record.epoch}",
        by=Service.API,
        action="webhooks_update",
        why="its receiver answered 410 Gone",
        target=target_of("webhook", record.webhook_id, record),
    )
