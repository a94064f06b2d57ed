"""Webhooks: where events are sent, how that goes, and what came of each event."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class WebhookFilter(Message):
    """Which events a webhook wants."""

    #: types, or beginnings of types with their dot (`penstock.worker.`); empty = every type
    event_types: tuple[str, ...] = ()
    #: ids or `app_name`s of endpoints; empty = events about anything
    endpoints: tuple[str, ...] = ()


class EarlierFilter(Message):
    """A filter that stood until an instant."""

    filter: WebhookFilter
    #: by the clock of NATS, as instants of stored events are
    until: AwareDatetime


class WebhookRecord(Message):
    """A webhook. Bucket WEBHOOKS; written by the api."""

    webhook_id: str
    url: str
    description: str = ""
    filter: WebhookFilter
    #: what stood before, newest first: an event that waits must have been wanted all along
    earlier: tuple[EarlierFilter, ...] = ()
    enabled: bool = True
    #: why it is not enabled: somebody said so, or the receiver answered 410 Gone
    disabled_reason: Literal["by_hand", "gone"] | None = None
    #: counts how often it was enabled, from 1; each time has a consumer of its own
    epoch: int = 1
    #: events stored from then on are sent; by the clock of NATS
    since: AwareDatetime
    #: `current`, and `previous` while a rotation's grace lasts; sealed; only the api opens them
    sealed: Mapping[str, str]
    #: until then the previous secret signs as well
    previous_until: AwareDatetime | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class WebhookStatus(Message):
    """How a webhook's receiver does. Bucket WEBHOOK_STATUS; written by the api."""

    webhook_id: str
    #: the newest success that was noted; one within ten seconds of it may not be
    last_success_at: AwareDatetime | None = None
    #: since then no attempt has succeeded; null = the last one has
    failing_since: AwareDatetime | None = None
    #: of the last failure that was noted, one sentence
    last_error: str | None = None
    updated_at: AwareDatetime


class DeliveryState(StrEnum):
    """What became of an event at a webhook."""

    WAITING = "waiting"  # to be tried again
    DELIVERED = "delivered"  # the receiver has answered 2xx
    FAILED = "failed"  # given up


class Attempt(Message):
    """One request to a receiver."""

    #: counts the attempts to deliver this event to this webhook, from 1
    n: int
    at: AwareDatetime
    duration_s: float
    #: HTTP status; null = there was no answer
    status: int | None = None
    #: one sentence; null = success
    error: str | None = None
    #: beginning of the answer's body
    response: str = ""


class DeliveryRecord(Message):
    """What became of one event at one webhook. Stream DELIVERIES; written by the api."""

    webhook_id: str
    event_id: str
    event_type: str
    #: what the event is about: the CloudEvent's subject
    about: str
    event_time: AwareDatetime
    #: of the event in the stream EVENTS
    event_sequence: int
    state: DeliveryState
    #: of the last attempts, oldest first
    attempts: tuple[Attempt, ...] = ()
    #: null = it is not tried again
    next_try_at: AwareDatetime | None = None
    updated_at: AwareDatetime
