"""Webhooks and their deliveries as a person reads them."""

import json
from collections.abc import Sequence
from datetime import datetime

from penstock_cli.output.printing import print_facts, print_line, print_rows, state_cell
from penstock_client.documents import (
    AttemptDocument,
    DeliveryDetail,
    DeliveryDocument,
    WebhookDocument,
)


def print_webhooks(webhooks: Sequence[WebhookDocument]) -> None:
    """A table, one webhook a line."""
    print_rows(
        ("WEBHOOK", "STATE", "WAITING", "EVENTS", "ENDPOINTS", "URL"),
        (
            (
                webhook.id,
                state_cell(*_state(webhook)),
                "?" if webhook.waiting is None else webhook.waiting,
                ", ".join(webhook.event_types) or "all",
                ", ".join(webhook.endpoints) or "any",
                webhook.url,
            )
            for webhook in webhooks
        ),
        "no webhooks; make one with `penstock webhook create URL`",
    )


def print_webhook(webhook: WebhookDocument) -> None:
    """A webhook, a fact a line."""
    print_facts(
        [
            ("webhook", webhook.id),
            ("url", webhook.url),
            ("description", webhook.description or None),
            ("state", state_cell(*_state(webhook))),
            ("events", ", ".join(webhook.event_types) or "all"),
            ("endpoints", ", ".join(webhook.endpoints) or "any"),
            ("waiting", webhook.waiting),
            ("last success", _instant(webhook.last_success_at)),
            ("failing since", _instant(webhook.failing_since)),
            ("last error", webhook.last_error),
            ("old secret signs until", _instant(webhook.previous_secret_until)),
            ("made", _instant(webhook.created_at)),
        ]
    )


def print_deliveries(deliveries: Sequence[DeliveryDocument]) -> None:
    """A table, one delivery a line."""
    print_rows(
        ("EVENT", "TYPE", "ABOUT", "HAPPENED", "STATE", "ATTEMPTS", "LAST", "NEXT TRY"),
        (
            (
                delivery.event_id,
                delivery.event_type,
                delivery.about or "-",
                _instant(delivery.event_time),
                state_cell(delivery.state, None),
                delivery.n_attempts,
                _outcome(delivery.last_attempt),
                _instant(delivery.next_try_at) or "-",
            )
            for delivery in deliveries
        ),
        "nothing was to be sent yet",
    )


def print_delivery(delivery: DeliveryDetail) -> None:
    """A delivery: the facts, each attempt, and the event."""
    print_facts(
        [
            ("event", delivery.event_id),
            ("type", delivery.event_type),
            ("about", delivery.about or None),
            ("happened", _instant(delivery.event_time)),
            ("state", state_cell(delivery.state, None)),
            ("next try", _instant(delivery.next_try_at)),
        ]
    )
    print_line("")
    print_rows(
        ("ATTEMPT", "AT", "TOOK", "OUTCOME", "RESPONSE"),
        (
            (
                attempt.n,
                _instant(attempt.at),
                f"{attempt.duration_s:.3f} s",
                _outcome(attempt),
                " ".join(attempt.response.split()) or "-",
            )
            for attempt in delivery.attempts
        ),
        "no attempt was made yet",
    )
    print_line("")
    print_line("the event is kept no longer" if delivery.event is None else _json(delivery.event))


def _state(webhook: WebhookDocument) -> tuple[str, str | None]:
    if not webhook.enabled:
        reason = "410 Gone" if webhook.disabled_reason == "gone" else None
        return "disabled", reason
    return ("failing", webhook.last_error) if webhook.failing_since else ("enabled", None)


def _outcome(attempt: AttemptDocument | None) -> str:
    if attempt is None:
        return "-"
    return str(attempt.status) if attempt.status is not None else attempt.error or "-"


def _instant(at: datetime | None) -> str | None:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else None


def _json(event: object) -> str:
    return json.dumps(event, indent=2)
