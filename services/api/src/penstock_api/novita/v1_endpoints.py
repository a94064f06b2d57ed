"""Routes of Novita's management API v1 about endpoints."""

from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import in_their_words, parse_body, under
from penstock_api.endpoint_actions import (
    create_endpoint,
    delete_endpoint,
    own,
    patch_endpoint,
    place,
    shown,
)
from penstock_api.novita.queries import number, required
from penstock_api.novita.v1 import FIELDS, change, creation, endpoint
from penstock_api.novita.v1_documents import (
    NovitaCreated,
    NovitaCreateRequest,
    NovitaEmpty,
    NovitaEndpoint,
    NovitaEndpointAnswer,
    NovitaEndpointList,
    NovitaId,
    NovitaUpdateRequest,
)
from penstock_api.routes.route import CALLER, Body, Query, Route, answer
from penstock_api.routes.workers import shown_workers
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import EndpointRecord

JSON: Final = "application/json"
BASE: Final = "/gpu-instance/openapi/v1"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST endpoint/create."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaCreateRequest, sent).endpoint
    endpoint_id = random_id(ids.ENDPOINT)
    with under("/endpoint"):
        document = creation(body, endpoint_id)
    with in_their_words(FIELDS, "/endpoint"):
        await create_endpoint(api, request[CALLER], document, endpoint_id=endpoint_id)
    return answer(NovitaCreated(id=endpoint_id))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET endpoints."""
    size, page = number(request.query, "pageSize"), number(request.query, "pageNum") or 0
    records = sorted((row.value for row in api.store.endpoints.rows.values()), key=place)
    shown_ones = records if size is None else records[page * size : (page + 1) * size]
    return answer(
        NovitaEndpointList(
            endpoints=tuple(_answer(api, record) for record in shown_ones), total=len(records)
        )
    )


async def show(api: Api, request: web.Request) -> web.Response:
    """GET endpoint."""
    record = api.store.find(required(request.query, "id"))
    return answer(NovitaEndpointAnswer(endpoint=_answer(api, record)))


async def update(api: Api, request: web.Request) -> web.Response:
    """POST endpoint/update."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaUpdateRequest, sent)
    with in_their_words(FIELDS):
        await patch_endpoint(
            api, own(api, request[CALLER], body.id), lambda record: change(body, record.spec)
        )
    return answer(NovitaEmpty())


async def delete(api: Api, request: web.Request) -> web.Response:
    """POST endpoint/delete."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    await delete_endpoint(api, request[CALLER], parse_body(NovitaId, sent).id)
    return answer(NovitaEmpty())


def _answer(api: Api, record: EndpointRecord) -> NovitaEndpoint:
    placed = (
        assignment
        for assignment in api.store.assignments().values()
        if assignment.endpoint_id == record.endpoint_id
    )
    return endpoint(shown(api, record), shown_workers(api, placed))


ROUTES: Final = (
    Route(
        "POST",
        f"{BASE}/endpoint/create",
        create,
        "deploy",
        "Create an endpoint, which asks no key of its callers.",
        NovitaCreated,
        body=Body((JSON,), NovitaCreateRequest),
    ),
    Route(
        "GET",
        f"{BASE}/endpoints",
        show_all,
        "read",
        "List the endpoints and their workers.",
        NovitaEndpointList,
        query=(
            Query("pageSize", "most endpoints of the answer", {"type": "integer", "minimum": 0}),
            Query("pageNum", "which page, from 0", {"type": "integer", "minimum": 0}),
        ),
    ),
    Route(
        "GET",
        f"{BASE}/endpoint",
        show,
        "read",
        "Show an endpoint and its workers.",
        NovitaEndpointAnswer,
        query=(Query("id", "the endpoint's id; required", {"type": "string"}),),
        errors=(404,),
    ),
    Route(
        "POST",
        f"{BASE}/endpoint/update",
        update,
        "deploy",
        "Change an endpoint.",
        NovitaEmpty,
        body=Body((JSON,), NovitaUpdateRequest),
        errors=(404,),
    ),
    Route(
        "POST",
        f"{BASE}/endpoint/delete",
        delete,
        "deploy",
        "Delete an endpoint once its workers are stopped.",
        NovitaEmpty,
        body=Body((JSON,), NovitaId),
        errors=(404,),
    ),
)
