"""API keys: make, list, show, change, revoke."""

from typing import Final, get_args

from aiohttp import web

from penstock_api.api_keys import key_document, plan_key, plan_key_change, plan_rotation
from penstock_api.auth import hash_key
from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.filters import one_of
from penstock_api.paging import oldest, parse_page
from penstock_api.routes.endpoints import JSON, MERGE_PATCH
from penstock_api.routes.route import PAGE, Body, Query, Route, answer
from penstock_api.store import EndpointNotFoundError
from penstock_client.documents import ApiKeyDocument, ApiKeyList, ApiKeyMade
from penstock_common import ids
from penstock_common.api_keys import (
    ApiKeyChange,
    ApiKeyRotation,
    ApiKeySpec,
    parse_api_key,
    parse_api_key_change,
    parse_api_key_rotation,
)
from penstock_common.entropy import random_id, random_secret
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import ApiKeyRecord, KeyScope


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/api-keys."""
    spec = parse_api_key(await read_json(request, (JSON,), api.settings.body_timeout_s))
    key = random_secret()
    record = plan_key(
        spec,
        key_id=random_id(ids.API_KEY),
        sha256=hash_key(key),
        endpoint_ids=_endpoint_ids(api, spec),
        now=api.clock.utc(),
    )
    await api.store.create_api_key(record)
    shown = ApiKeyMade(**_document(api, record).model_dump(), key=key)
    return answer(shown, status=201, location=f"/v1/api-keys/{record.key_id}")


def _endpoint_ids(api: Api, spec: ApiKeySpec) -> tuple[str, ...]:
    found, problems = [], []
    for place, name in enumerate(spec.endpoints):
        try:
            found.append(api.store.find(name).endpoint_id)
        except EndpointNotFoundError as error:
            problems.append(Problem(f"/endpoints/{place}", str(error)))
    if problems:
        raise InvalidDocumentError(problems)
    return tuple(dict.fromkeys(found))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/api-keys."""
    page = parse_page(request.query)
    scope = one_of(request.query, "scope", get_args(KeyScope))
    records = (row.value for row in api.store.api_keys.rows.values())
    listed, cursor = page.of(
        (record for record in records if scope in (None, record.scope)),
        lambda record: oldest(record.created_at, record.key_id),
    )
    documents = tuple(_document(api, record) for record in listed)
    return answer(ApiKeyList(api_keys=documents, next_cursor=cursor))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/api-keys/{api_key}."""
    return answer(_document(api, api.store.find_api_key(request.match_info["api_key"])))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/api-keys/{api_key}."""
    key_id = request.match_info["api_key"]
    api.store.find_api_key(key_id)  # an unknown key is told before a wrong document
    body = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    change = parse_api_key_change(body)
    now = api.clock.utc()
    record = await api.store.change_api_key(
        key_id, lambda old: plan_key_change(old, change, now=now)
    )
    return answer(_document(api, record))


async def rotate(api: Api, request: web.Request) -> web.Response:
    """POST /v1/api-keys/{api_key}/rotate."""
    key_id = request.match_info["api_key"]
    api.store.find_api_key(key_id)
    rotation = ApiKeyRotation()
    if request.body_exists:
        body = await read_json(request, (JSON,), api.settings.body_timeout_s)
        rotation = parse_api_key_rotation(body)
    key, now = random_secret(), api.clock.utc()
    record = await api.store.change_api_key(
        key_id, lambda old: plan_rotation(old, rotation, sha256=hash_key(key), now=now)
    )
    return answer(ApiKeyMade(**_document(api, record).model_dump(), key=key))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/api-keys/{api_key}."""
    record = await api.store.revoke_api_key(request.match_info["api_key"])
    return answer(_document(api, record))


def _document(api: Api, record: ApiKeyRecord) -> ApiKeyDocument:
    return key_document(record, api.store.held(), api.store.last_use(record.key_id))


ROUTES: Final = (
    Route(
        "POST",
        "/v1/api-keys",
        create,
        "admin",
        "Make an API key; the answer alone shows it.",
        ApiKeyMade,
        status=201,
        body=Body((JSON,), ApiKeySpec),
    ),
    Route(
        "GET",
        "/v1/api-keys",
        show_all,
        "admin",
        "List the API keys.",
        ApiKeyList,
        query=(*PAGE, Query("scope", "only keys of this scope", {"enum": [*get_args(KeyScope)]})),
    ),
    Route("GET", "/v1/api-keys/{api_key}", show, "admin", "Show an API key.", ApiKeyDocument),
    Route(
        "PATCH",
        "/v1/api-keys/{api_key}",
        update,
        "admin",
        "Change an API key's name, quota or expiry.",
        ApiKeyDocument,
        body=Body((MERGE_PATCH, JSON), ApiKeyChange),
    ),
    Route(
        "POST",
        "/v1/api-keys/{api_key}/rotate",
        rotate,
        "admin",
        "Give an API key a new secret; the answer alone shows it.",
        ApiKeyMade,
        body=Body((JSON,), ApiKeyRotation, required=False),
    ),
    Route(
        "DELETE",
        "/v1/api-keys/{api_key}",
        delete,
        "admin",
        "Revoke an API key.",
        ApiKeyDocument,
    ),
)
