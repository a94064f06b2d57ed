"""How the records of webhooks and of their deliveries change [pure]."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from penstock_api.webhooks.filters import change_filter
from penstock_api.webhooks.verdicts import Answered, Ending, Result, Verdict
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.messages import (
    Attempt,
    DeliveryRecord,
    DeliveryState,
    WebhookFilter,
    WebhookRecord,
    WebhookStatus,
)
from penstock_common.webhooks import WebhookSpec

#: Names under which a webhook's secrets are sealed.
CURRENT: Final = "current"
PREVIOUS: Final = "previous"

#: Attempts of a delivery that are kept.
_ATTEMPTS_KEPT: Final = 15
#: What is the same as before is noted again after so long.
_NOTE_AGAIN: Final = timedelta(seconds=10)

_STATES: Final = {
    Ending.DELIVERED: DeliveryState.DELIVERED,
    Ending.AGAIN: DeliveryState.WAITING,
    Ending.GIVEN_UP: DeliveryState.FAILED,
    Ending.GONE: DeliveryState.FAILED,
}


@dataclass(frozen=True, slots=True)
class Instants:
    """One instant by two clocks."""

    #: by the api's
    now: datetime
    #: by that of NATS, which says when an event was stored
    stored: datetime


def new_webhook(
    spec: WebhookSpec, *, webhook_id: str, sealed_secret: str, at: Instants
) -> WebhookRecord:
    """The record of a webhook that is sent what is stored from now on."""
    return WebhookRecord(
        webhook_id=webhook_id,
        url=spec.url,
        description=spec.description,
        filter=_filter_of(spec),
        enabled=spec.enabled,
        disabled_reason=None if spec.enabled else "by_hand",
        since=at.stored,
        sealed={CURRENT: sealed_secret},
        created_at=at.now,
        updated_at=at.now,
    )


def spec_of(record: WebhookRecord) -> WebhookSpec:
    """The document of a webhook as somebody could have written it."""
    return WebhookSpec.model_construct(
        url=record.url,
        event_types=record.filter.event_types,
        endpoints=record.filter.endpoints,
        description=record.description,
        enabled=record.enabled,
    )


def change_webhook(record: WebhookRecord, spec: WebhookSpec, *, at: Instants) -> WebhookRecord:
    """The record with another document; the same object when nothing changes.

    A webhook that is enabled again begins anew: what happened meanwhile is not sent.
    """
    changed = change_filter(record, _filter_of(spec), at=at.stored)
    updates: dict[str, object] = {"url": spec.url, "description": spec.description}
    if spec.enabled and not record.enabled:
        updates |= {
            "enabled": True,
            "disabled_reason": None,
            "epoch": record.epoch + 1,
            "since": at.stored,
            "earlier": (),
        }
    elif record.enabled and not spec.enabled:
        updates |= {"enabled": False, "disabled_reason": "by_hand"}
    changed = changed.model_copy(update=updates)
    if changed == record:
        return record
    return changed.model_copy(update={"updated_at": at.now})


def rotate_secret(
    record: WebhookRecord, sealed_secret: str, *, grace_s: float, now: datetime
) -> WebhookRecord:
    """The record with another secret; the one before signs as well for `grace_s` seconds."""
    sealed = {CURRENT: sealed_secret}
    until = None
    if grace_s > 0:
        sealed[PREVIOUS] = record.sealed[CURRENT]
        until = now + timedelta(seconds=grace_s)
    return record.model_copy(update={"sealed": sealed, "previous_until": until, "updated_at": now})


def valid_secrets(record: WebhookRecord, now: datetime) -> tuple[str, ...]:
    """Names of the secrets that sign now, the newest first."""
    until = record.previous_until
    return (CURRENT, PREVIOUS) if until is not None and now < until else (CURRENT,)


def disable_gone(record: WebhookRecord, *, epoch: int, now: datetime) -> WebhookRecord:
    """The record once its receiver answered 410 Gone; as it is if it was enabled anew since."""
    if not record.enabled or record.epoch != epoch:
        return record
    return record.model_copy(
        update={"enabled": False, "disabled_reason": "gone", "updated_at": now}
    )


@dataclass(frozen=True, slots=True)
class Made:
    """An attempt that was made."""

    at: datetime
    duration_s: float
    result: Result
    verdict: Verdict

    @property
    def error(self) -> str | None:
        """Why it failed, one sentence; None = it did not."""
        return self.result.error

    def numbered(self, n: int) -> Attempt:
        """As it is kept."""
        answered = self.result if isinstance(self.result, Answered) else None
        return Attempt(
            n=n,
            at=self.at,
            duration_s=round(self.duration_s, 3),
            status=answered.status if answered else None,
            error=self.error,
            response=answered.response if answered else "",
        )


def note_attempt(
    old: DeliveryRecord | None,
    made: Made,
    event: CloudEvent,
    *,
    webhook_id: str,
    n: int,
    sequence: int,
    now: datetime,
) -> DeliveryRecord:
    """The record of a delivery after an attempt.

    Args:
        old: as it was; None = there was none.
        made: the attempt.
        event: what was sent.
        webhook_id: to whom.
        n: which attempt it was, from 1, if `old` does not know of as many.
        sequence: of the event in its stream.
        now: when it ended.
    """
    attempts = old.attempts if old else ()
    number = max(n, attempts[-1].n + 1 if attempts else 1)
    kept = (*attempts, made.numbered(number))[-_ATTEMPTS_KEPT:]
    again = made.verdict.ending is Ending.AGAIN
    return DeliveryRecord(
        webhook_id=webhook_id,
        event_id=event.attributes["id"],
        event_type=event.type,
        about=event.attributes.get("subject", ""),
        event_time=event.time or now,
        event_sequence=old.event_sequence if old else sequence,
        state=_STATES[made.verdict.ending],
        attempts=kept,
        next_try_at=now + timedelta(seconds=made.verdict.wait_s) if again else None,
        updated_at=now,
    )


def note_handed_in(
    old: DeliveryRecord | None,
    event: CloudEvent,
    *,
    webhook_id: str,
    sequence: int,
    now: datetime,
) -> DeliveryRecord:
    """The record of a delivery that is to be made; `old` itself once something is known of it."""
    return old or DeliveryRecord(
        webhook_id=webhook_id,
        event_id=event.attributes["id"],
        event_type=event.type,
        about=event.attributes.get("subject", ""),
        event_time=event.time or now,
        event_sequence=sequence,
        state=DeliveryState.WAITING,
        next_try_at=now,
        updated_at=now,
    )


def note_status(
    old: WebhookStatus | None, made: Made, *, webhook_id: str, now: datetime
) -> WebhookStatus | None:
    """How the receiver does after an attempt; None = there is nothing to note."""
    recent = old is not None and now - old.updated_at < _NOTE_AGAIN
    if made.error is None:
        if recent and old is not None and old.failing_since is None:
            return None
        return WebhookStatus(webhook_id=webhook_id, last_success_at=now, updated_at=now)
    if recent and old is not None and old.failing_since is not None:
        return None
    return WebhookStatus(
        webhook_id=webhook_id,
        last_success_at=old.last_success_at if old else None,
        failing_since=old.failing_since if old and old.failing_since else made.at,
        last_error=made.error,
        updated_at=now,
    )


def _filter_of(spec: WebhookSpec) -> WebhookFilter:
    return WebhookFilter(
        event_types=tuple(dict.fromkeys(spec.event_types)),
        endpoints=tuple(dict.fromkeys(spec.endpoints)),
    )
