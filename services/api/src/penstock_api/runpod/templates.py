"""Routes of RunPod's REST API v1 about templates."""

from typing import ClassVar, Final

from aiohttp import web

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import in_their_words, parse_body
from penstock_api.endpoint_actions import patch_endpoint
from penstock_api.endpoint_changes import plan_creation
from penstock_api.routes.route import Body, Route, answer
from penstock_api.runpod.documents import (
    RunpodCreateRequest,
    RunpodNewTemplate,
    RunpodTemplate,
    RunpodTemplateRequest,
    RunpodTemplates,
)
from penstock_api.runpod.v1 import (
    TEMPLATE_FIELDS,
    changed_template,
    creation,
    new_template,
    template_change,
    template_document,
)
from penstock_api.store import Store
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.errors import PenstockError
from penstock_common.messages import TemplateRecord
from penstock_common.subjects import TEMPLATES

JSON: Final = "application/json"
BASE: Final = "/runpod/v1"


class TemplateNotFoundError(PenstockError):
    """There is no such template."""

    error_type: ClassVar[str] = "template_not_found"
    status_hint: ClassVar[int] = 404


class TemplateInUseError(PenstockError):
    """An endpoint runs this template; delete the endpoint first."""

    error_type: ClassVar[str] = "template_in_use"
    status_hint: ClassVar[int] = 409


def find_template(store: Store, template_id: str) -> TemplateRecord:
    """The template with this id.

    Raises:
        TemplateNotFoundError: there is none.
    """
    row = store.templates.rows.get(template_id)
    if row is None:
        raise TemplateNotFoundError(f"there is no template '{template_id}'")
    return row.value


async def create(api: Api, request: web.Request) -> web.Response:
    """POST templates."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    record = new_template(
        parse_body(RunpodNewTemplate, sent),
        template_id=random_id(ids.TEMPLATE),
        created_at=api.clock.utc(),
    )
    _check(api, record)
    await api.store.create_record(TEMPLATES, record.template_id, record)
    return answer(template_document(record))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET templates."""
    records = (row.value for row in api.store.templates.rows.values())
    oldest_first = sorted(records, key=lambda record: (record.created_at, record.template_id))
    return answer(RunpodTemplates(tuple(map(template_document, oldest_first))))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET templates/{template}."""
    return answer(template_document(find_template(api.store, request.match_info["template"])))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH templates/{template}."""
    return await _update(api, request)


async def post_update(api: Api, request: web.Request) -> web.Response:
    """POST templates/{template}/update."""
    return await _update(api, request)


async def _update(api: Api, request: web.Request) -> web.Response:
    template_id = request.match_info["template"]
    find_template(api.store, template_id)
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(RunpodTemplateRequest, sent)
    record = changed_template(body, find_template(api.store, template_id))
    _check(api, record)
    # The template last: when an endpoint cannot follow, the request can be sent again.
    for endpoint_id in _users(api.store, template_id):
        with in_their_words(TEMPLATE_FIELDS):
            await patch_endpoint(
                api, endpoint_id, lambda found: template_change(record, found.spec)
            )
    await api.store.change_record(TEMPLATES, template_id, lambda _: record)
    return answer(template_document(record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE templates/{template}."""
    template_id = request.match_info["template"]

    def check() -> None:
        find_template(api.store, template_id)
        users = _users(api.store, template_id)
        if users:
            raise TemplateInUseError(f"endpoint '{users[0]}' runs it; delete the endpoint first")

    await api.store.remove_record(TEMPLATES, template_id, check)
    return web.Response(status=204)


def _users(store: Store, template_id: str) -> list[str]:
    """Ids of the endpoints that run a template, those being deleted left out."""
    return [
        endpoint_id
        for endpoint_id, row in store.endpoints.rows.items()
        if row.value.template_id == template_id and row.value.deleted_at is None
    ]


def _check(api: Api, record: TemplateRecord) -> None:
    """Nothing, when an endpoint can be made of it; raises what is wrong in their words."""
    document = creation(RunpodCreateRequest(template_id=record.template_id), record)
    with in_their_words(TEMPLATE_FIELDS):
        plan_creation(
            document,
            endpoint_id=random_id(ids.ENDPOINT),
            suffix="check",
            seal=api.sealer.seal,
            now=api.clock.utc(),
            registry_auths=api.store.registry_auths.rows,
            volumes=api.store.volumes.rows,
        )


ROUTES: Final = (
    Route(
        "POST",
        f"{BASE}/templates",
        create,
        "admin",
        "Create a template: what endpoints run.",
        RunpodTemplate,
        body=Body((JSON,), RunpodNewTemplate),
    ),
    Route("GET", f"{BASE}/templates", show_all, "read", "List the templates.", RunpodTemplates),
    Route(
        "GET",
        f"{BASE}/templates/{{template}}",
        show,
        "read",
        "Show a template.",
        RunpodTemplate,
    ),
    Route(
        "PATCH",
        f"{BASE}/templates/{{template}}",
        update,
        "admin",
        "Change what is given of a template, and of its endpoints.",
        RunpodTemplate,
        body=Body((JSON,), RunpodTemplateRequest),
    ),
    Route(
        "POST",
        f"{BASE}/templates/{{template}}/update",
        post_update,
        "admin",
        "Change what is given of a template, and of its endpoints, too.",
        RunpodTemplate,
        body=Body((JSON,), RunpodTemplateRequest),
    ),
    Route(
        "DELETE",
        f"{BASE}/templates/{{template}}",
        delete,
        "admin",
        "Delete a template that no endpoint runs.",
        None,
        status=204,
    ),
)
