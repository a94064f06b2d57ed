"""Prewarms: images that are to be on nodes ahead of need."""

from typing import Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.filters import one_of
from penstock_api.paging import oldest, parse_page
from penstock_api.prewarms import (
    check_registry_auth,
    find_prewarm,
    prewarm_document,
    remove_prewarm,
)
from penstock_api.routes.route import PAGE, Body, Query, Route, answer
from penstock_client.documents import PrewarmDocument, PrewarmList
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import PrewarmRecord, PrewarmState
from penstock_common.prewarms import PrewarmSpec, parse_prewarm
from penstock_common.subjects import PREWARMS

JSON: Final = "application/json"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/prewarms."""
    spec = parse_prewarm(await read_json(request, (JSON,), api.settings.body_timeout_s))
    check_registry_auth(api.store, spec)
    record = PrewarmRecord(
        prewarm_id=random_id(ids.PREWARM),
        image=spec.image,
        registry_auth_id=spec.registry_auth_id,
        nodes=spec.nodes,
        products=spec.products,
        created_at=api.clock.utc(),
    )
    await api.store.create_record(PREWARMS, record.prewarm_id, record)
    location = f"/v1/prewarms/{record.prewarm_id}"
    return answer(prewarm_document(api.store, record), status=201, location=location)


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/prewarms."""
    page = parse_page(request.query)
    state = one_of(request.query, "state", PrewarmState)
    records = (row.value for row in api.store.prewarms.rows.values())
    shown = (prewarm_document(api.store, record) for record in records)
    listed, cursor = page.of(
        (prewarm for prewarm in shown if state in (None, prewarm.state)),
        lambda prewarm: oldest(prewarm.created_at, prewarm.id),
    )
    return answer(PrewarmList(prewarms=tuple(listed), next_cursor=cursor))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/prewarms/{prewarm}."""
    record = find_prewarm(api.store, request.match_info["prewarm"])
    return answer(prewarm_document(api.store, record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/prewarms/{prewarm}."""
    removed = await remove_prewarm(api.store, request.match_info["prewarm"])
    return answer(prewarm_document(api.store, removed))


ROUTES: Final = (
    Route(
        "POST",
        "/v1/prewarms",
        create,
        "admin",
        "Have an image pulled ahead of need.",
        PrewarmDocument,
        status=201,
        body=Body((JSON,), PrewarmSpec),
    ),
    Route(
        "GET",
        "/v1/prewarms",
        show_all,
        "read",
        "List the prewarms and how far each node is.",
        PrewarmList,
        query=(
            *PAGE,
            Query("state", "only prewarms in this state", {"enum": list(PrewarmState)}),
        ),
    ),
    Route(
        "GET",
        "/v1/prewarms/{prewarm}",
        show,
        "read",
        "Show a prewarm and how far each node is.",
        PrewarmDocument,
    ),
    Route(
        "DELETE",
        "/v1/prewarms/{prewarm}",
        delete,
        "admin",
        "Forget a prewarm; its image may be cleaned up from then on.",
        PrewarmDocument,
    ),
)
