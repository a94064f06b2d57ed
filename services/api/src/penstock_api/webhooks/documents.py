"""Webhooks and deliveries as the api shows them [pure]."""

from datetime import datetime
from typing import Final

from penstock_client.documents import (
    AttemptDocument,
    DeliveryDetail,
    DeliveryDocument,
    WebhookDocument,
)
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.messages import Attempt, DeliveryRecord, WebhookRecord, WebhookStatus

#: Above every sequence of a stream.
_END: Final = 10**19


def webhook_document(
    record: WebhookRecord, status: WebhookStatus | None, waiting: int | None, *, now: datetime
) -> WebhookDocument:
    """A webhook, without its secrets."""
    until = record.previous_until
    return WebhookDocument(
        id=record.webhook_id,
        url=record.url,
        event_types=record.filter.event_types,
        endpoints=record.filter.endpoints,
        description=record.description,
        enabled=record.enabled,
        disabled_reason=record.disabled_reason,
        previous_secret_until=until if until is not None and now < until else None,
        last_success_at=status.last_success_at if status else None,
        failing_since=status.failing_since if status else None,
        last_error=status.last_error if status else None,
        waiting=waiting,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def delivery_document(record: DeliveryRecord) -> DeliveryDocument:
    """A delivery in a list."""
    last = record.attempts[-1] if record.attempts else None
    return DeliveryDocument(
        event_id=record.event_id,
        event_type=record.event_type,
        about=record.about,
        event_time=record.event_time,
        state=record.state,
        n_attempts=last.n if last else 0,
        last_attempt=_attempt(last) if last else None,
        next_try_at=record.next_try_at,
        updated_at=record.updated_at,
    )


def delivery_detail(record: DeliveryRecord, event: CloudEvent | None) -> DeliveryDetail:
    """A delivery alone; `event` None = it is kept no longer."""
    return DeliveryDetail(
        **dict(delivery_document(record)),
        attempts=tuple(map(_attempt, record.attempts)),
        event=event.document if event else None,
    )


def delivery_place(record: DeliveryRecord) -> tuple[str, ...]:
    """Where a delivery stands in a list: those of the newest events first."""
    return (f"{_END - record.event_sequence:020d}", record.event_id)


def _attempt(attempt: Attempt) -> AttemptDocument:
    return AttemptDocument(**attempt.model_dump())
