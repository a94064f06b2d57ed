"""Webhooks: what is known of them, and their writes."""

from collections.abc import Callable
from typing import ClassVar, Final
from urllib.parse import urlsplit

from penstock_api.store import EndpointNotFoundError, Store
from penstock_api.webhooks.addresses import AddressPolicy, is_address
from penstock_api.webhooks.filters import subjects_of
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem
from penstock_common.events.filters import UnknownTypeError, check_type
from penstock_common.messages import WebhookFilter, WebhookRecord
from penstock_common.subjects import WEBHOOK_STATUS, WEBHOOKS
from penstock_common.webhooks import WebhookSpec

#: Each has a consumer, and connections of its own.
MAX_WEBHOOKS: Final = 100


class WebhookNotFoundError(PenstockError):
    """There is no such webhook."""

    error_type: ClassVar[str] = "webhook_not_found"
    status_hint: ClassVar[int] = 404


class WebhookDisabledError(PenstockError):
    """This webhook is not enabled; enable it first."""

    error_type: ClassVar[str] = "webhook_disabled"
    status_hint: ClassVar[int] = 409


class TooManyWebhooksError(PenstockError):
    """There are as many webhooks as there may be; delete one first."""

    error_type: ClassVar[str] = "too_many_webhooks"
    status_hint: ClassVar[int] = 409


def find_webhook(store: Store, webhook_id: str) -> WebhookRecord:
    """The webhook with this id.

    Raises:
        WebhookNotFoundError: there is none.
    """
    row = store.webhooks.rows.get(webhook_id)
    if row is None:
        raise WebhookNotFoundError(f"there is no webhook '{webhook_id}'")
    return row.value


def resolve(
    store: Store, spec: WebhookSpec, policy: AddressPolicy, *, old: WebhookSpec | None = None
) -> WebhookSpec:
    """The document with ids for names of endpoints.

    Args:
        store: knows the endpoints.
        spec: as somebody wrote it.
        policy: which addresses may be reached.
        old: the document before; what it says already is taken, also if it is of yesterday.

    Raises:
        InvalidDocumentError: an endpoint does not exist, no event is of a type, nothing at all
            would be sent, or the URL's address may not be reached.
    """
    problems: list[Problem] = []
    if old is None or spec.url != old.url:
        problems += _problems_of_url(spec.url, policy)
    for place, wanted in enumerate(spec.event_types):
        if old is None or wanted not in old.event_types:
            try:
                check_type(wanted)
            except UnknownTypeError as error:
                problems.append(Problem(f"/event_types/{place}", str(error)))
    ids: list[str] = []
    for place, name in enumerate(spec.endpoints):
        if old is not None and name in old.endpoints:
            ids.append(name)
            continue
        try:
            ids.append(store.find(name).endpoint_id)
        except EndpointNotFoundError as error:
            problems.append(Problem(f"/endpoints/{place}", str(error)))
    resolved = spec.model_copy(update={"endpoints": tuple(dict.fromkeys(ids))})
    if not problems and not subjects_of(
        WebhookFilter(event_types=resolved.event_types, endpoints=resolved.endpoints)
    ):
        told = "events of these types are about no endpoint: nothing would be sent"
        problems.append(Problem("/endpoints", told))
    if problems:
        raise InvalidDocumentError(problems)
    return resolved


def _problems_of_url(url: str, policy: AddressPolicy) -> list[Problem]:
    """What a name leads to is seen when something is sent."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    if not is_address(host) or policy.permits(host):
        return []
    told = (
        "no address that webhooks may be sent to: it is not public; the operator allows more with "
        "PENSTOCK_API_WEBHOOK_ALLOWED_NETWORKS"
    )
    return [Problem("/url", told)]


async def create_webhook(store: Store, record: WebhookRecord) -> None:
    """Store a new webhook.

    Raises:
        PenstockError: `TooManyWebhooksError`; NATS is away, or timed out: then it may or may not
            have been stored.
    """

    def plan(_: bytes | None) -> WebhookRecord:
        if len(store.webhooks.rows) >= MAX_WEBHOOKS:
            raise TooManyWebhooksError(f"there are {MAX_WEBHOOKS} webhooks; delete one first")
        return record

    await store.change_record(WEBHOOKS, record.webhook_id, plan)


async def change_webhook_record(
    store: Store, webhook_id: str, change: Callable[[WebhookRecord], WebhookRecord]
) -> WebhookRecord:
    """Change a webhook's record; gives it as it is then. What changes nothing writes nothing.

    Args:
        store: of records.
        webhook_id: which.
        change: record → changed record, or the same object; called again after a lost race.

    Raises:
        PenstockError: what `change` raises; `WebhookNotFoundError`; NATS is away or timed out, in
            which case the change may or may not have been made.
    """
    unchanged: list[WebhookRecord] = []

    def plan(data: bytes | None) -> WebhookRecord | None:
        if data is None:
            raise WebhookNotFoundError(f"there is no webhook '{webhook_id}'")
        old = WebhookRecord.decode(data)
        new = change(old)
        unchanged[:] = [old]
        return None if new is old else new

    changed = await store.change_record(WEBHOOKS, webhook_id, plan)
    return changed or unchanged[0]


async def remove_webhook(store: Store, webhook_id: str) -> WebhookRecord:
    """Remove a webhook's records; gives what it was.

    Raises:
        PenstockError: `WebhookNotFoundError`; NATS is away or timed out, in which case it may or
            may not be gone.
    """
    removed: list[WebhookRecord] = []

    def check() -> None:
        removed[:] = [find_webhook(store, webhook_id)]

    await store.remove_record(WEBHOOKS, webhook_id, check)
    await store.remove_record(WEBHOOK_STATUS, webhook_id, lambda: None)
    return removed[0]
