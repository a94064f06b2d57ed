"""Network volumes: where data lie that outlive workers and are reached from several nodes."""

from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.paging import oldest, parse_page
from penstock_api.routes.route import PAGE, Body, Query, Route, answer
from penstock_api.volumes import (
    all_volumes,
    change_volume,
    create_volume,
    find_volume,
    new_volume,
    remove_volume,
    users_of,
)
from penstock_client.documents import VolumeDocument, VolumeList
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import VolumeRecord
from penstock_common.volumes import VolumeSpec, parse_volume, parse_volume_patch

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/volumes."""
    spec = parse_volume(await read_json(request, (JSON,), api.settings.body_timeout_s))
    record = new_volume(random_id(ids.VOLUME), spec, now=api.clock.utc())
    await create_volume(api.store, record)
    created = _document(api, record)
    return answer(created, status=201, location=f"/v1/volumes/{created.id}")


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/volumes."""
    page, text = parse_page(request.query), request.query.get("q", "").lower()
    named = (record for record in all_volumes(api.store) if text in record.name.lower())
    listed, cursor = page.of(named, lambda record: oldest(record.created_at, record.volume_id))
    documents = tuple(_document(api, record) for record in listed)
    return answer(VolumeList(volumes=documents, next_cursor=cursor))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/volumes/{volume}."""
    return answer(_document(api, find_volume(api.store, request.match_info["volume"])))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/volumes/{volume}."""
    volume_id = request.match_info["volume"]
    find_volume(api.store, volume_id)  # an unknown volume is told before a wrong document
    body = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    patch = parse_volume_patch(body)
    changed = await change_volume(api.store, volume_id, patch, now=api.clock.utc())
    return answer(_document(api, changed))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/volumes/{volume}."""
    removed = await remove_volume(api.store, request.match_info["volume"])
    return answer(_document(api, removed))


def _document(api: Api, record: VolumeRecord) -> VolumeDocument:
    return VolumeDocument(
        id=record.volume_id,
        name=record.name,
        source=record.source,
        node_selector=record.node_selector,
        size_gb=record.size_gb,
        endpoints=users_of(api.store)(record.volume_id),
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


ROUTES: Final = (
    Route(
        "POST",
        "/v1/volumes",
        create,
        "admin",
        "Make a network volume known.",
        VolumeDocument,
        status=201,
        body=Body((JSON,), VolumeSpec),
    ),
    Route(
        "GET",
        "/v1/volumes",
        show_all,
        "read",
        "List the network volumes.",
        VolumeList,
        query=(*PAGE, Query("q", "only those whose name holds this", {"type": "string"})),
    ),
    Route("GET", "/v1/volumes/{volume}", show, "read", "Show a network volume.", VolumeDocument),
    Route(
        "PATCH",
        "/v1/volumes/{volume}",
        update,
        "admin",
        "Change a network volume's name, or the size that is told.",
        VolumeDocument,
        body=Body((MERGE_PATCH, JSON), VolumeSpec),
    ),
    Route(
        "DELETE",
        "/v1/volumes/{volume}",
        delete,
        "admin",
        "Forget a network volume that nothing uses; its data stay.",
        VolumeDocument,
    ),
)
