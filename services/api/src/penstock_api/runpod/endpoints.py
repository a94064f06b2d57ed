"""Routes of RunPod's REST API v1 about endpoints."""

from dataclasses import dataclass
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
from penstock_api.problems import RefusedError
from penstock_api.routes.route import CALLER, Body, Query, Route, answer
from penstock_api.routes.workers import shown_workers
from penstock_api.runpod.documents import (
    RunpodCreateRequest,
    RunpodEndpoint,
    RunpodEndpointRequest,
    RunpodEndpoints,
)
from penstock_api.runpod.templates import find_template
from penstock_api.runpod.v1 import FIELDS, change, creation, endpoint, wanted_pause
from penstock_common.messages import EndpointRecord

JSON: Final = "application/json"
BASE: Final = "/runpod/v1"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST endpoints."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(RunpodCreateRequest, sent)
    template = find_template(api.store, body.template_id)
    document = creation(body, template)
    with in_their_words(FIELDS):
        created = await create_endpoint(
            api,
            request[CALLER],
            document,
            adjust=lambda record: wanted_pause(
                body, record.model_copy(update={"template_id": template.template_id})
            ),
        )
    return answer(_answer(api, _PLAIN, created.record))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET endpoints."""
    included = _included(request)
    records = sorted((row.value for row in api.store.endpoints.rows.values()), key=place)
    return answer(RunpodEndpoints(tuple(_answer(api, included, record) for record in records)))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET endpoints/{endpoint}."""
    return answer(_answer(api, _included(request), api.store.find(request.match_info["endpoint"])))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH endpoints/{endpoint}."""
    return await _update(api, request)


async def post_update(api: Api, request: web.Request) -> web.Response:
    """POST endpoints/{endpoint}/update."""
    return await _update(api, request)


async def _update(api: Api, request: web.Request) -> web.Response:
    name = own(api, request[CALLER], request.match_info["endpoint"])
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(RunpodEndpointRequest, sent)
    if body.template_id is not None and body.template_id != (
        api.store.find(name).template_id or ""
    ):
        raise RefusedError(
            400, "wrong_parameter", "templateId cannot change; change the template, or make another"
        )
    with in_their_words(FIELDS):
        changed = await patch_endpoint(
            api,
            name,
            lambda record: change(body, record.spec),
            adjust=lambda record: wanted_pause(body, record),
        )
    return answer(_answer(api, _PLAIN, changed.record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE endpoints/{endpoint}."""
    await delete_endpoint(api, request[CALLER], request.match_info["endpoint"])
    return web.Response(status=204)


@dataclass(frozen=True, slots=True)
class _Included:
    """What an answer is to hold beside the endpoint."""

    template: bool
    workers: bool


#: After a creation or a change, which take no parameters.
_PLAIN: Final = _Included(template=False, workers=False)


def _included(request: web.Request) -> _Included:
    return _Included(_asked(request, "includeTemplate"), _asked(request, "includeWorkers"))


def _answer(api: Api, included: _Included, record: EndpointRecord) -> RunpodEndpoint:
    row = api.store.templates.rows.get(record.template_id or "")
    placed = (
        assignment
        for assignment in api.store.assignments().values()
        if assignment.endpoint_id == record.endpoint_id
    )
    return endpoint(
        shown(api, record),
        record,
        row.value if row is not None and included.template else None,
        shown_workers(api, placed) if included.workers else None,
    )


def _asked(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in {"true", "false"}:
        raise RefusedError(400, "wrong_parameter", f"{name} is true or false")
    return text == "true"


_INCLUDE: Final = (
    Query("includeTemplate", "show the template", {"type": "boolean", "default": False}),
    Query("includeWorkers", "show the workers", {"type": "boolean", "default": False}),
)

ROUTES: Final = (
    Route(
        "POST",
        f"{BASE}/endpoints",
        create,
        "deploy",
        "Create an endpoint of a template.",
        RunpodEndpoint,
        body=Body((JSON,), RunpodCreateRequest),
        errors=(404,),
    ),
    Route(
        "GET",
        f"{BASE}/endpoints",
        show_all,
        "read",
        "List the endpoints.",
        RunpodEndpoints,
        query=_INCLUDE,
    ),
    Route(
        "GET",
        f"{BASE}/endpoints/{{endpoint}}",
        show,
        "read",
        "Show an endpoint.",
        RunpodEndpoint,
        query=_INCLUDE,
    ),
    Route(
        "PATCH",
        f"{BASE}/endpoints/{{endpoint}}",
        update,
        "deploy",
        "Change what is given of an endpoint.",
        RunpodEndpoint,
        body=Body((JSON,), RunpodEndpointRequest),
    ),
    Route(
        "POST",
        f"{BASE}/endpoints/{{endpoint}}/update",
        post_update,
        "deploy",
        "Change what is given of an endpoint, too.",
        RunpodEndpoint,
        body=Body((JSON,), RunpodEndpointRequest),
    ),
    Route(
        "DELETE",
        f"{BASE}/endpoints/{{endpoint}}",
        delete,
        "deploy",
        "Delete an endpoint once its workers are stopped.",
        None,
        status=204,
    ),
)
