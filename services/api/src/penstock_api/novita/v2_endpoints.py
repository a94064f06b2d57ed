"""Routes of Novita's management API v2: endpoints."""

from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import in_their_words, parse_body
from penstock_api.endpoint_actions import (
    create_endpoint,
    delete_endpoint,
    own,
    patch_endpoint,
    place,
    shown,
)
from penstock_api.novita.queries import number
from penstock_api.novita.v2 import FIELDS, change, creation, endpoint
from penstock_api.novita.v2_documents import (
    NovitaV2ChangeRequest,
    NovitaV2CreateRequest,
    NovitaV2Done,
    NovitaV2Endpoint,
    NovitaV2EndpointList,
)
from penstock_api.paging import MAX_LIMIT, parse_page
from penstock_api.routes.route import CALLER, Body, Query, Route, answer
from penstock_api.routes.workers import shown_workers
from penstock_client.documents import EndpointDocument
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import EndpointRecord

JSON: Final = "application/json"
BASE: Final = "/gpus/v2"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /gpus/v2/endpoints."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    endpoint_id = random_id(ids.ENDPOINT)
    document = creation(parse_body(NovitaV2CreateRequest, sent), endpoint_id)
    with in_their_words(FIELDS):
        created = await create_endpoint(api, request[CALLER], document, endpoint_id=endpoint_id)
    return answer(endpoint(created.document, ()))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /gpus/v2/endpoints."""
    limit = min(number(request.query, "limit") or MAX_LIMIT, MAX_LIMIT)
    cursor = request.query.get("cursor", "")
    page = parse_page({"limit": str(limit), **({"cursor": cursor} if cursor else {})})
    keyword = request.query.get("keyword", "").lower()
    records = (row.value for row in api.store.endpoints.rows.values())
    wanted = (
        record
        for record in records
        if keyword in record.spec.name.lower() or keyword in record.spec.app_name
    )
    listed, following = page.of(wanted, place)
    return answer(
        NovitaV2EndpointList(
            data=tuple(_answer(api, record) for record in listed),
            next_cursor=following or "",
            has_more=following is not None,
        )
    )


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /gpus/v2/endpoints/{endpoint}."""
    return answer(_answer(api, api.store.find(request.match_info["endpoint"])))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /gpus/v2/endpoints/{endpoint}."""
    name = own(api, request[CALLER], request.match_info["endpoint"])
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaV2ChangeRequest, sent)
    with in_their_words(FIELDS):
        changed = await patch_endpoint(api, name, lambda record: change(body, record.spec))
    return answer(_with_workers(api, changed.document))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /gpus/v2/endpoints/{endpoint}."""
    await delete_endpoint(api, request[CALLER], request.match_info["endpoint"])
    return answer(NovitaV2Done())


def _answer(api: Api, record: EndpointRecord) -> NovitaV2Endpoint:
    return _with_workers(api, shown(api, record))


def _with_workers(api: Api, document: EndpointDocument) -> NovitaV2Endpoint:
    placed = (
        assignment
        for assignment in api.store.assignments().values()
        if assignment.endpoint_id == document.id
    )
    return endpoint(document, shown_workers(api, placed))


ROUTES: Final = (
    Route(
        "POST",
        f"{BASE}/endpoints",
        create,
        "deploy",
        "Create an endpoint, which asks no key of its callers.",
        NovitaV2Endpoint,
        body=Body((JSON,), NovitaV2CreateRequest),
    ),
    Route(
        "GET",
        f"{BASE}/endpoints",
        show_all,
        "read",
        "List the endpoints and their workers.",
        NovitaV2EndpointList,
        query=(
            Query("limit", "most endpoints of the answer", {"type": "integer", "minimum": 0}),
            Query("cursor", "the `next_cursor` of the page before", {"type": "string"}),
            Query("keyword", "only those whose name or app_name holds this", {"type": "string"}),
            Query("member_ids", "ignored: there are no members", {"type": "string"}),
        ),
    ),
    Route(
        "GET",
        f"{BASE}/endpoints/{{endpoint}}",
        show,
        "read",
        "Show an endpoint and its workers.",
        NovitaV2Endpoint,
    ),
    Route(
        "PATCH",
        f"{BASE}/endpoints/{{endpoint}}",
        update,
        "deploy",
        "Change what is given of an endpoint.",
        NovitaV2Endpoint,
        body=Body((JSON,), NovitaV2ChangeRequest),
    ),
    Route(
        "DELETE",
        f"{BASE}/endpoints/{{endpoint}}",
        delete,
        "deploy",
        "Delete an endpoint once its workers are stopped.",
        NovitaV2Done,
    ),
)
