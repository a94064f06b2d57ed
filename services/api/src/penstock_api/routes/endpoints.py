"""Endpoints: create, list, show, change, go back, delete, pause, resume."""

from typing import Final

from aiohttp import web
from pydantic import ValidationError

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.endpoint_changes import plan_change, plan_creation, plan_deletion, plan_pause
from penstock_api.events import Verb
from penstock_api.revisions import (
    RevisionNotFoundError,
    plan_rollback,
    previous_revision,
    revision_documents,
)
from penstock_api.routes.route import Body, Route, answer
from penstock_api.store import Change
from penstock_api.views import endpoint_document
from penstock_api.volumes import missing_volumes
from penstock_client.documents import (
    DecisionList,
    EndpointDocument,
    EndpointList,
    RevisionList,
    RollbackRequest,
)
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import EndpointRecord
from penstock_common.specs import EndpointSpec

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"

#: Characters of an id's random part that tell generated `app_name`s apart: 25 bits.
_SUFFIX_LENGTH: Final = 5


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints."""
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    record = plan_creation(
        document,
        endpoint_id=random_id(ids.ENDPOINT),
        suffix=random_id(ids.ENDPOINT)[-_SUFFIX_LENGTH:],
        seal=api.sealer.seal,
        now=api.clock.utc(),
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
    )
    await api.store.create_endpoint(record)
    created = _document(api, record)
    api.events.announce("created", created)
    return answer(created, status=201, location=f"/v1/endpoints/{created.id}")


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints."""
    records = (row.value for row in api.store.endpoints.rows.values())
    oldest_first = sorted(records, key=lambda record: (record.created_at, record.endpoint_id))
    return answer(EndpointList(endpoints=tuple(_document(api, r) for r in oldest_first)))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}."""
    return answer(_document(api, api.store.find(request.match_info["endpoint"])))


async def show_decisions(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/decisions."""
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    row = api.store.scale_history.rows.get(endpoint_id)
    return answer(DecisionList(decisions=row.value.decisions if row else ()))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/endpoints/{endpoint}."""
    name = request.match_info["endpoint"]
    api.store.find(name)  # an unknown endpoint is told before a wrong document
    patch = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        name,
        lambda record: plan_change(
            record,
            patch,
            seal=api.sealer.seal,
            now=now,
            registry_auths=api.store.registry_auths.rows,
            volumes=api.store.volumes.rows,
        ),
    )
    return answer(_announced(api, change, "updated"))


async def show_revisions(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/revisions."""
    record = api.store.find(request.match_info["endpoint"])
    filed = api.store.revisions_of(record.endpoint_id)
    return answer(RevisionList(revisions=revision_documents(record, filed)))


async def roll_back(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/rollback."""
    name = request.match_info["endpoint"]
    endpoint_id = api.store.find(name).endpoint_id
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    try:
        wanted = RollbackRequest.model_validate(document).revision
    except ValidationError:
        raise InvalidDocumentError(
            [Problem("/revision", 'send {} or {"revision": <a number from 1 on>}')]
        ) from None
    now = api.clock.utc()

    def plan(record: EndpointRecord) -> EndpointRecord:
        filed = api.store.revisions_of(endpoint_id)
        number = previous_revision(record, filed) if wanted is None else wanted
        if number == record.revision:
            return record
        if number not in filed:
            raise RevisionNotFoundError(
                f"revision {number} of '{name}' never was, or is not kept any more"
            )
        gone = missing_volumes(api.store, filed[number].spec)
        if gone:
            told = f"revision {number} uses the volume {gone[0]}, which is gone"
            raise InvalidDocumentError([Problem("/revision", told)])
        return plan_rollback(record, filed[number], why=None, now=now)

    change = await api.store.change_endpoint(name, plan)
    return answer(_announced(api, change, "rolled_back"))


def announce_retreat(api: Api, record: EndpointRecord) -> None:
    """Tell of an endpoint that went back by itself."""
    api.events.announce("rolled_back", _document(api, record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/endpoints/{endpoint}."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        request.match_info["endpoint"], lambda record: plan_deletion(record, now=now)
    )
    return answer(_announced(api, change, "deleted"), status=202)


async def pause(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/pause."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        request.match_info["endpoint"], lambda record: plan_pause(record, True, now=now)
    )
    return answer(_announced(api, change, "paused"))


async def resume(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/resume."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        request.match_info["endpoint"], lambda record: plan_pause(record, False, now=now)
    )
    return answer(_announced(api, change, "resumed"))


def _document(api: Api, record: EndpointRecord) -> EndpointDocument:
    status = api.store.endpoint_status.rows.get(record.endpoint_id)
    return endpoint_document(
        record,
        status.value if status else None,
        api.loads.of_endpoint(record.endpoint_id, api.clock.monotonic()),
        router_url=api.settings.router_url,
    )


def _announced(api: Api, change: Change, verb: Verb) -> EndpointDocument:
    document = _document(api, change.record)
    if change.changed:
        api.events.announce(verb, document)
    return document


ROUTES: Final = (
    Route(
        "POST",
        "/v1/endpoints",
        create,
        "admin",
        "Create an endpoint.",
        EndpointDocument,
        status=201,
        body=Body((JSON,), EndpointSpec),
    ),
    Route("GET", "/v1/endpoints", show_all, "read", "List the endpoints.", EndpointList),
    Route("GET", "/v1/endpoints/{endpoint}", show, "read", "Show an endpoint.", EndpointDocument),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/decisions",
        show_decisions,
        "read",
        "List the autoscaler's last 50 decisions.",
        DecisionList,
    ),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/revisions",
        show_revisions,
        "read",
        "List the last 20 revisions and what each changed.",
        RevisionList,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/rollback",
        roll_back,
        "admin",
        "Run again what an earlier revision ran.",
        EndpointDocument,
        body=Body((JSON,), RollbackRequest),
    ),
    Route(
        "PATCH",
        "/v1/endpoints/{endpoint}",
        update,
        "admin",
        "Change an endpoint by a JSON merge patch.",
        EndpointDocument,
        body=Body((MERGE_PATCH, JSON), EndpointSpec),
    ),
    Route(
        "DELETE",
        "/v1/endpoints/{endpoint}",
        delete,
        "admin",
        "Delete an endpoint once its workers are stopped.",
        EndpointDocument,
        status=202,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/pause",
        pause,
        "admin",
        "Keep an endpoint at 0 workers.",
        EndpointDocument,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/resume",
        resume,
        "admin",
        "Let a paused endpoint run again.",
        EndpointDocument,
    ),
)
