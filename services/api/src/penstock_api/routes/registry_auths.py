"""Registry auths: credentials of image registries; their passwords go in and never come out."""

from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.paging import oldest, parse_page
from penstock_api.registry_auths import (
    create_registry_auth,
    find_registry_auth,
    remove_registry_auth,
)
from penstock_api.routes.route import PAGE, Body, Route, answer
from penstock_client.documents import RegistryAuthDocument, RegistryAuthList
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import RegistryAuthRecord
from penstock_common.registry_auths import PASSWORD, RegistryAuthSpec, parse_registry_auth

JSON: Final = "application/json"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/registry-auths."""
    record = await make(api, await read_json(request, (JSON,), api.settings.body_timeout_s))
    location = f"/v1/registry-auths/{record.registry_auth_id}"
    return answer(_document(record), status=201, location=location)


async def make(api: Api, document: object) -> RegistryAuthRecord:
    """A new registry auth of this document; raises what is wrong with it."""
    spec = parse_registry_auth(document)
    record = RegistryAuthRecord(
        registry_auth_id=random_id(ids.REGISTRY_AUTH),
        name=spec.name,
        username=spec.username,
        sealed=api.sealer.seal({PASSWORD: spec.password}),
        created_at=api.clock.utc(),
    )
    await create_registry_auth(api.store, record)
    return record


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/registry-auths."""
    page = parse_page(request.query)
    listed, cursor = page.of(
        oldest_first(api), lambda record: oldest(record.created_at, record.registry_auth_id)
    )
    return answer(
        RegistryAuthList(registry_auths=tuple(map(_document, listed)), next_cursor=cursor)
    )


def oldest_first(api: Api) -> list[RegistryAuthRecord]:
    """The registry auths in the order of lists."""
    records = (row.value for row in api.store.registry_auths.rows.values())
    return sorted(records, key=lambda record: (record.created_at, record.registry_auth_id))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/registry-auths/{registry_auth}."""
    return answer(_document(find_registry_auth(api.store, request.match_info["registry_auth"])))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/registry-auths/{registry_auth}."""
    removed = await remove_registry_auth(api.store, request.match_info["registry_auth"])
    return answer(_document(removed))


def _document(record: RegistryAuthRecord) -> RegistryAuthDocument:
    return RegistryAuthDocument(
        id=record.registry_auth_id,
        name=record.name,
        username=record.username,
        created_at=record.created_at,
    )


ROUTES: Final = (
    Route(
        "POST",
        "/v1/registry-auths",
        create,
        "admin",
        "Store credentials of an image registry.",
        RegistryAuthDocument,
        status=201,
        body=Body((JSON,), RegistryAuthSpec),
    ),
    Route(
        "GET",
        "/v1/registry-auths",
        show_all,
        "read",
        "List the registry auths, without passwords.",
        RegistryAuthList,
        query=PAGE,
    ),
    Route(
        "GET",
        "/v1/registry-auths/{registry_auth}",
        show,
        "read",
        "Show a registry auth, without its password.",
        RegistryAuthDocument,
    ),
    Route(
        "DELETE",
        "/v1/registry-auths/{registry_auth}",
        delete,
        "admin",
        "Delete a registry auth that no endpoint names.",
        RegistryAuthDocument,
    ),
)
