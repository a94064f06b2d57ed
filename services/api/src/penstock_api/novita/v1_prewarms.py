"""Routes of Novita's management API v1 about image prewarms."""

from typing import Final, get_args

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import in_their_words, parse_body
from penstock_api.novita.prewarms import (
    FIELDS,
    NovitaIds,
    NovitaPrewarm,
    NovitaPrewarmNote,
    NovitaPrewarmQuota,
    NovitaPrewarmRequest,
    NovitaPrewarms,
    PrewarmWord,
    creation,
    matches,
    prewarm,
)
from penstock_api.novita.queries import number
from penstock_api.novita.v1_documents import NovitaCreated, NovitaEmpty
from penstock_api.novita.v1_endpoints import BASE
from penstock_api.prewarms import (
    PrewarmNotFoundError,
    check_registry_auth,
    find_prewarm,
    prewarm_document,
    remove_prewarm,
)
from penstock_api.routes.nodes import shown_nodes
from penstock_api.routes.route import Body, Query, Route, answer
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.messages import PrewarmRecord
from penstock_common.prewarms import parse_prewarm
from penstock_common.subjects import PREWARMS

JSON: Final = "application/json"
_DEFAULT_PAGE_SIZE: Final = 10


async def create(api: Api, request: web.Request) -> web.Response:
    """POST image/prewarm."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaPrewarmRequest, sent)
    with in_their_words(FIELDS):
        spec = parse_prewarm(creation(body, shown_nodes(api)))
        check_registry_auth(api.store, spec)
    record = PrewarmRecord(
        prewarm_id=random_id(ids.PREWARM),
        image=spec.image,
        registry_auth_id=spec.registry_auth_id,
        nodes=spec.nodes,
        products=spec.products,
        note=body.note or "",
        created_at=api.clock.utc(),
    )
    await api.store.create_record(PREWARMS, record.prewarm_id, record)
    return answer(NovitaCreated(id=record.prewarm_id))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET image/prewarm."""
    page = max(number(request.query, "page") or 1, 1)
    size = number(request.query, "pageSize") or _DEFAULT_PAGE_SIZE
    records = (row.value for row in api.store.prewarms.rows.values())
    oldest_first = sorted(records, key=lambda record: (record.created_at, record.prewarm_id))
    shown = (_answer(api, record) for record in oldest_first)
    asked = {name: request.query.get(name, "") for name in ("state", "name")}
    cluster = request.query.get("clusterId", "")
    found = [one for one in shown if matches(one, cluster=cluster, **asked)]
    return answer(
        NovitaPrewarms(data=tuple(found[(page - 1) * size : page * size]), total=len(found))
    )


async def show_quota(api: Api, request: web.Request) -> web.Response:
    """GET image/prewarm/quota."""
    return answer(NovitaPrewarmQuota(total=len(api.store.prewarms.rows)))


async def edit(api: Api, request: web.Request) -> web.Response:
    """POST image/prewarm/edit."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaPrewarmNote, sent)

    def plan(data: bytes | None) -> PrewarmRecord | None:
        if data is None:
            raise PrewarmNotFoundError(f"there is no prewarm '{body.id}'")
        old = PrewarmRecord.decode(data)
        return None if old.note == body.note else old.model_copy(update={"note": body.note})

    find_prewarm(api.store, body.id)  # a wrong id may be no key
    changed = await api.store.change_record(PREWARMS, body.id, plan)
    return answer(_answer(api, changed or find_prewarm(api.store, body.id)))


async def delete(api: Api, request: web.Request) -> web.Response:
    """POST image/prewarm/delete."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    wanted = dict.fromkeys(parse_body(NovitaIds, sent).ids)
    for prewarm_id in wanted:  # all or none, as far as that can be known
        find_prewarm(api.store, prewarm_id)
    for prewarm_id in wanted:
        await remove_prewarm(api.store, prewarm_id)
    return answer(NovitaEmpty())


def _answer(api: Api, record: PrewarmRecord) -> NovitaPrewarm:
    return prewarm(prewarm_document(api.store, record), record.note, shown_nodes(api))


ROUTES: Final = (
    Route(
        "POST",
        f"{BASE}/image/prewarm",
        create,
        "admin",
        "Have an image pulled ahead of need.",
        NovitaCreated,
        body=Body((JSON,), NovitaPrewarmRequest),
    ),
    Route(
        "GET",
        f"{BASE}/image/prewarm",
        show_all,
        "read",
        "List the prewarms.",
        NovitaPrewarms,
        query=(
            Query("page", "which page, from 1", {"type": "integer", "minimum": 1, "default": 1}),
            Query("pageSize", "most prewarms of the answer", {"type": "integer", "default": 10}),
            Query("state", "only those in this state", {"enum": list(get_args(PrewarmWord))}),
            Query("clusterId", "only those of this cluster", {"type": "string"}),
            Query("name", "only those whose imageName or note holds this", {"type": "string"}),
        ),
    ),
    Route(
        "GET",
        f"{BASE}/image/prewarm/quota",
        show_quota,
        "read",
        "Show how many prewarms there are.",
        NovitaPrewarmQuota,
    ),
    Route(
        "POST",
        f"{BASE}/image/prewarm/edit",
        edit,
        "admin",
        "Give a prewarm another note.",
        NovitaPrewarm,
        body=Body((JSON,), NovitaPrewarmNote),
        errors=(404,),
    ),
    Route(
        "POST",
        f"{BASE}/image/prewarm/delete",
        delete,
        "admin",
        "Forget prewarms; their images may be cleaned up from then on.",
        NovitaEmpty,
        body=Body((JSON,), NovitaIds),
        errors=(404,),
    ),
)
