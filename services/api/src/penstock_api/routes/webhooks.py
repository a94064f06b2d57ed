"""Webhooks: make, list, show, change, delete, rotate the secret, test; and their deliveries."""

import asyncio
import logging
from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.filters import one_of
from penstock_api.paging import oldest, parse_page
from penstock_api.problems import RefusedError
from penstock_api.routes.endpoints import MERGE_PATCH
from penstock_api.routes.requests import JSON, read_request
from penstock_api.routes.route import PAGE, Body, Query, Route, answer
from penstock_api.webhooks.changes import (
    WebhookDisabledError,
    change_webhook_record,
    create_webhook,
    find_webhook,
    remove_webhook,
    resolve,
)
from penstock_api.webhooks.deliveries import DeliveryNotFoundError
from penstock_api.webhooks.documents import (
    delivery_detail,
    delivery_document,
    delivery_place,
    webhook_document,
)
from penstock_api.webhooks.records import (
    CURRENT,
    Instants,
    change_webhook,
    new_webhook,
    note_handed_in,
    rotate_secret,
    spec_of,
)
from penstock_api.webhooks.signing import secret_of
from penstock_api.webhooks.trial import trial_event
from penstock_client.documents import (
    DeliveryDetail,
    DeliveryDocument,
    DeliveryList,
    RotateRequest,
    WebhookDocument,
    WebhookList,
    WebhookMade,
)
from penstock_common import ids
from penstock_common.entropy import random_id, random_key
from penstock_common.errors import PenstockError
from penstock_common.messages import DeliveryRecord, DeliveryState, WebhookRecord
from penstock_common.webhooks import WebhookPatch, WebhookSpec, parse_webhook, parse_webhook_patch

logger = logging.getLogger(__name__)

_ONE: Final = "/v1/webhooks/{webhook}"
_DELIVERY: Final = f"{_ONE}/deliveries/{{event}}"
_STATE: Final = Query(
    "state",
    "only deliveries in this state",
    {"type": "string", "enum": [state.value for state in DeliveryState]},
)


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/webhooks."""
    written = parse_webhook(await read_json(request, (JSON,), api.settings.body_timeout_s))
    spec = resolve(api.store, written, api.settings.webhook_addresses)
    secret = secret_of(random_key())
    record = new_webhook(
        spec,
        webhook_id=random_id(ids.WEBHOOK),
        sealed_secret=_seal(api, secret),
        at=await _instants(api),
    )
    await create_webhook(api.store, record)  # the couriers make its consumer, from `since` on
    made = WebhookMade(**dict(await _document(api, record)), secret=secret)
    return answer(made, status=201, location=f"/v1/webhooks/{record.webhook_id}")


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/webhooks."""
    page = parse_page(request.query)
    records = (row.value for row in api.store.webhooks.rows.values())
    listed, cursor = page.of(records, lambda r: oldest(r.created_at, r.webhook_id))
    shown = await asyncio.gather(*(_document(api, record) for record in listed))
    return answer(WebhookList(webhooks=tuple(shown), next_cursor=cursor))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/webhooks/{webhook}."""
    return answer(await _document(api, _named(api, request)))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/webhooks/{webhook}."""
    _named(api, request)  # an unknown webhook is told before a wrong document
    body = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    patch = parse_webhook_patch(body)
    at = await _instants(api)

    def change(old: WebhookRecord) -> WebhookRecord:
        before = spec_of(old)
        policy = api.settings.webhook_addresses
        return change_webhook(
            old, resolve(api.store, patch.apply(before), policy, old=before), at=at
        )

    record = await change_webhook_record(api.store, request.match_info["webhook"], change)
    await _apply(api, record)
    return answer(await _document(api, record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/webhooks/{webhook}."""
    shown = await _document(api, _named(api, request))
    record = await remove_webhook(api.store, shown.id)
    try:
        await api.outbox.drop(record.webhook_id, record.epoch)
        await api.deliveries.forget(record.webhook_id)
    except PenstockError as error:
        # It is deleted all the same: the consumer is swept later, the records go by age.
        logger.warning(
            "remains of a webhook not removed",
            extra={
                "action": "webhook_remains",
                "webhook_id": record.webhook_id,
                "error": str(error),
            },
        )
    return answer(shown)


async def rotate(api: Api, request: web.Request) -> web.Response:
    """POST /v1/webhooks/{webhook}/rotate-secret."""
    _named(api, request)
    wanted = await read_request(api, request, RotateRequest)
    secret = secret_of(random_key())
    sealed, now = _seal(api, secret), api.clock.utc()
    record = await change_webhook_record(
        api.store,
        request.match_info["webhook"],
        lambda old: rotate_secret(old, sealed, grace_s=wanted.grace_s, now=now),
    )
    return answer(WebhookMade(**dict(await _document(api, record)), secret=secret))


async def send_test(api: Api, request: web.Request) -> web.Response:
    """POST /v1/webhooks/{webhook}/test."""
    record = _enabled(api, request)
    event = trial_event(record.webhook_id, event_id=random_id(ids.EVENT), now=api.clock.utc())
    sequence = await api.outbox.hand_in(record.webhook_id, event, tried=0)
    delivery = await api.deliveries.change(
        record.webhook_id,
        event.attributes["id"],
        lambda old: note_handed_in(
            old, event, webhook_id=record.webhook_id, sequence=sequence, now=api.clock.utc()
        ),
    )
    return answer(delivery_document(delivery), status=202)


async def show_deliveries(api: Api, request: web.Request) -> web.Response:
    """GET /v1/webhooks/{webhook}/deliveries."""
    webhook_id = _named(api, request).webhook_id
    page, state = parse_page(request.query), _state_of(request)
    records = await api.deliveries.all_of(webhook_id)
    if state is not None:
        records = [record for record in records if record.state is state]
    shown, cursor = page.of(records, delivery_place)
    return answer(DeliveryList(deliveries=tuple(map(delivery_document, shown)), next_cursor=cursor))


async def show_delivery(api: Api, request: web.Request) -> web.Response:
    """GET /v1/webhooks/{webhook}/deliveries/{event}."""
    record = await _delivery(api, request)
    event = await api.deliveries.event_of(record)
    return answer(delivery_detail(record, event))


async def redeliver(api: Api, request: web.Request) -> web.Response:
    """POST /v1/webhooks/{webhook}/deliveries/{event}/redeliver."""
    webhook = _enabled(api, request)
    record = await _delivery(api, request)
    event = await api.deliveries.event_of(record)
    if event is None:
        raise RefusedError(
            410, "event_gone", "this event is kept no longer and cannot be sent again"
        )
    tried = record.attempts[-1].n if record.attempts else 0
    await api.outbox.hand_in(webhook.webhook_id, event, tried=tried)
    return answer(delivery_document(record), status=202)


def _named(api: Api, request: web.Request) -> WebhookRecord:
    return find_webhook(api.store, request.match_info["webhook"])


def _enabled(api: Api, request: web.Request) -> WebhookRecord:
    record = _named(api, request)
    if not record.enabled:
        raise WebhookDisabledError
    return record


async def _delivery(api: Api, request: web.Request) -> DeliveryRecord:
    webhook_id, event_id = _named(api, request).webhook_id, request.match_info["event"]
    record = await api.deliveries.find(webhook_id, event_id)
    if record is None:
        raise DeliveryNotFoundError(f"this webhook knows of no event '{event_id}'")
    return record


def _state_of(request: web.Request) -> DeliveryState | None:
    state = one_of(request.query, "state", DeliveryState)
    return None if state is None else DeliveryState(state)


async def _instants(api: Api) -> Instants:
    return Instants(now=api.clock.utc(), stored=await api.outbox.now())


def _seal(api: Api, secret: str) -> str:
    return api.sealer.seal({CURRENT: secret})[CURRENT]


async def _apply(api: Api, record: WebhookRecord) -> None:
    """Have NATS hold what the webhook wants from now on, not only once couriers come to it."""
    if record.enabled:
        await api.outbox.ensure(record)
    else:
        await api.outbox.drop(record.webhook_id, record.epoch)


async def _document(api: Api, record: WebhookRecord) -> WebhookDocument:
    row = api.store.webhook_status.rows.get(record.webhook_id)
    try:
        waiting = await api.outbox.waiting(record) if record.enabled else 0
    except PenstockError:
        waiting = None  # everything else is shown without NATS, too
    return webhook_document(record, row.value if row else None, waiting, now=api.clock.utc())


ROUTES: Final = (
    Route(
        "POST",
        "/v1/webhooks",
        create,
        "admin",
        "Have events sent to a URL; the answer alone shows the secret.",
        WebhookMade,
        status=201,
        body=Body((JSON,), WebhookSpec),
    ),
    Route(
        "GET",
        "/v1/webhooks",
        show_all,
        "admin",
        "List the webhooks.",
        WebhookList,
        query=PAGE,
    ),
    Route(
        "GET",
        _ONE,
        show,
        "admin",
        "Show a webhook and how its receiver does.",
        WebhookDocument,
    ),
    Route(
        "PATCH",
        _ONE,
        update,
        "admin",
        "Change, disable or enable a webhook.",
        WebhookDocument,
        body=Body((MERGE_PATCH, JSON), WebhookPatch),
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        "admin",
        "Delete a webhook and what waits for it.",
        WebhookDocument,
    ),
    Route(
        "POST",
        f"{_ONE}/rotate-secret",
        rotate,
        "admin",
        "Give a webhook another secret; the old one signs for a while as well.",
        WebhookMade,
        body=Body((JSON,), RotateRequest, required=False),
    ),
    Route(
        "POST",
        f"{_ONE}/test",
        send_test,
        "admin",
        "Send a webhook an event that means nothing.",
        DeliveryDocument,
        status=202,
    ),
    Route(
        "GET",
        f"{_ONE}/deliveries",
        show_deliveries,
        "admin",
        "List what became of a webhook's events.",
        DeliveryList,
        query=(_STATE, *PAGE),
    ),
    Route(
        "GET",
        _DELIVERY,
        show_delivery,
        "admin",
        "Show an event, and each attempt to deliver it.",
        DeliveryDetail,
    ),
    Route(
        "POST",
        f"{_DELIVERY}/redeliver",
        redeliver,
        "admin",
        "Send an event again.",
        DeliveryDocument,
        status=202,
        errors=(410,),
    ),
)
