"""The audit trail: who asked for which change, and what came of it."""

from typing import Any

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class AuditTarget(Message):
    """Something that a request is about."""

    #: what it is: `endpoint`, `api_key`, `node` …
    kind: str
    id: str
    #: for people; empty = it has none, or it is not known
    name: str = ""


class AuditChange(Message):
    """One field that changed."""

    #: id of the target that it is a field of
    target: str
    #: JSON pointer (RFC 6901)
    pointer: str
    #: null = it was not there; `(hidden)` = a secret
    before: Any = None
    #: null = it is not there any more; `(hidden)` = a secret
    after: Any = None


class AuditRecord(Message):
    """One request, several alike that were refused, or a change that Penstock made by itself.

    Stream AUDIT; written by the api.
    """

    audit_id: str
    #: when it came; of several, the first
    at: AwareDatetime
    #: when the last of several came
    last_at: AwareDatetime
    #: how many there were
    count: int = 1
    request_id: str = ""
    #: id and name of who asked: an API key or a join token; of what Penstock changes by itself, the
    #: service that found it due; null = nobody that is known
    key_id: str | None = None
    key_name: str = ""
    #: address that it came from; empty = several
    source: str = ""
    #: `X-Forwarded-For` as it was sent, which anybody can write
    forwarded_for: str = ""
    #: what was asked for: the operation's name in OpenAPI
    action: str
    #: e.g. `PATCH /v1/endpoints/{endpoint}`; empty = nobody asked
    route: str
    targets: tuple[AuditTarget, ...] = ()
    #: HTTP status of the answer, or what it would be; null = attempted: how it ended is not known
    status: int | None = None
    #: why it was refused: the `reason` of the answer; empty = it was done
    reason: str = ""
    #: why Penstock made the change by itself, for people; empty = somebody asked
    why: str = ""
    changes: tuple[AuditChange, ...] = ()
    #: changes that are not listed, as there are so many
    changes_left_out: int = 0
