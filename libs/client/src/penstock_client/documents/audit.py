"""The audit trail: who asked for which change, and what came of it."""

from typing import Any, Literal

from pydantic import AwareDatetime

from penstock_client.documents.base import Document


class AuditTargetDocument(Document):
    """Something that a request was about."""

    #: what it is: `endpoint`, `api_key`, `node` …
    kind: str
    id: str
    #: for people; empty = it has none
    name: str


class AuditChangeDocument(Document):
    """One field that changed; the values of secrets are `(hidden)`."""

    #: id of the target that it is a field of
    target: str
    #: JSON pointer (RFC 6901)
    pointer: str
    #: null = it was not there
    before: Any
    #: null = it is not there any more
    after: Any


class AuditRecordDocument(Document):
    """One request, several alike that were refused, or a change that Penstock made by itself."""

    id: str
    #: when it came; of several, the first
    at: AwareDatetime
    #: when the last of several came
    last_at: AwareDatetime
    #: how many there were
    count: int
    #: `X-Request-Id` of its answer; empty = there was none
    request_id: str
    #: the API key or join token that asked; of what Penstock changes by itself `scheduler` or `api`;
    #: null = no known one
    key_id: str | None
    key_name: str
    #: address that it came from; empty = several, or none
    source: str
    #: `X-Forwarded-For` as it was sent, which anybody can write
    forwarded_for: str
    #: the operation's `operationId` in `/openapi.json`
    action: str
    #: e.g. `PATCH /v1/endpoints/{endpoint}`; empty = nobody asked
    route: str
    targets: tuple[AuditTargetDocument, ...]
    #: HTTP status of the answer, or what it would be; null = attempted: how it ended is not known
    status: int | None
    #: why it was refused; empty = it was done
    reason: str
    #: why Penstock made the change by itself; empty = somebody asked
    why: str
    changes: tuple[AuditChangeDocument, ...]
    #: changes that are not listed, as there are so many
    changes_left_out: int


class AuditGapDocument(Document):
    """Records that are missing: some of them may have been wanted."""

    #: their numbers in the stream; null = nobody knows
    first: int | None
    last: int | None
    #: `expired`: none of them is kept; `renewed`: the stream was made anew since
    why: Literal["expired", "renewed"]

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.why == "renewed":
            return "--- the audit trail was made anew: what happened in between is lost ---"
        return "--- records are missing: they are kept no more ---"


class AuditEndDocument(Document):
    """No more records come: all that there is was shown, as asked for."""

    why: Literal["caught_up"] = "caught_up"


class AuditList(Document):
    """A page of the audit trail, newest first."""

    records: tuple[AuditRecordDocument, ...]
    #: `?cursor=` of the next page, which may have fewer records than asked for; null = the last
    next_cursor: str | None
