"""Webhooks, and what became of the events that they were sent."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from penstock_client.documents.base import Document
from penstock_common.messages import DeliveryState
from penstock_common.webhooks import DEFAULT_GRACE_S, MAX_GRACE_S


class WebhookDocument(Document):
    """A webhook, and how its receiver does; the secret is shown once, when it is made."""

    id: str
    url: str
    #: types, or beginnings of types with their dot (`penstock.worker.`); empty = every type
    event_types: tuple[str, ...]
    #: ids of endpoints; empty = events about anything
    endpoints: tuple[str, ...]
    description: str
    enabled: bool
    #: somebody said so, or the receiver answered 410 Gone
    disabled_reason: Literal["by_hand", "gone"] | None
    #: until then the secret before the last rotation signs as well
    previous_secret_until: AwareDatetime | None
    #: to about ten seconds
    last_success_at: AwareDatetime | None
    #: since then no attempt has succeeded; null = the last one has
    failing_since: AwareDatetime | None
    #: why the last attempt failed that was noted
    last_error: str | None
    #: events that are to be sent, those that wait for another try included; null = not known now
    waiting: int | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class WebhookMade(WebhookDocument):
    """A webhook with a new secret."""

    #: what its deliveries are signed with; shown this once
    secret: str


class WebhookList(Document):
    """The webhooks, oldest first."""

    webhooks: tuple[WebhookDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


class RotateRequest(Document):
    """How the secret is to be exchanged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: so long the secret before signs as well
    grace_s: Annotated[float, Field(ge=0, le=MAX_GRACE_S, strict=True)] = DEFAULT_GRACE_S


class AttemptDocument(Document):
    """One request to a receiver."""

    #: counts the attempts to deliver this event to this webhook, from 1
    n: int
    at: AwareDatetime
    duration_s: float
    #: HTTP status; null = there was no answer
    status: int | None
    #: one sentence; null = success
    error: str | None
    #: beginning of the answer's body
    response: str


class DeliveryDocument(Document):
    """What became of one event at one webhook."""

    event_id: str
    event_type: str
    #: what the event is about: an endpoint, a worker, a node
    about: str
    event_time: AwareDatetime
    state: DeliveryState
    #: attempts made so far
    n_attempts: int
    last_attempt: AttemptDocument | None
    #: null = it is not tried again
    next_try_at: AwareDatetime | None
    updated_at: AwareDatetime


class DeliveryDetail(DeliveryDocument):
    """The same, with every attempt that is kept and the event."""

    #: the last ones, oldest first
    attempts: tuple[AttemptDocument, ...]
    #: the CloudEvent as it was sent; null = it is kept no longer
    event: Mapping[str, Any] | None


class DeliveryList(Document):
    """Deliveries of a webhook, those of the newest events first."""

    deliveries: tuple[DeliveryDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None
