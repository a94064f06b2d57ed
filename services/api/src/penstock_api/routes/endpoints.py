"""Endpoints: create, list, show, change, go back, delete, pause, resume."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from penstock_api.api_keys import check_quota
from penstock_api.auth import check_owner
from penstock_api.bodies import read_json
from penstock_api.canaries import plan_abort, plan_canary, plan_promotion
from penstock_api.context import Api
from penstock_api.endpoint_changes import plan_change, plan_creation, plan_deletion, plan_pause
from penstock_api.events import Verb
from penstock_api.paging import parse_page
from penstock_api.preconditions import IfMatch, etag, parse_if_match
from penstock_api.problems import RefusedError
from penstock_api.revisions import (
    RevisionNotFoundError,
    plan_rollback,
    previous_revision,
    revision_documents,
)
from penstock_api.routes.route import CALLER, PAGE, Body, Query, Route, answer
from penstock_api.store import Change
from penstock_api.views import endpoint_document, shown_state
from penstock_api.volumes import missing_volumes
from penstock_client.documents import (
    CanaryRequest,
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
from penstock_common.states import EndpointState

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
        owner=request[CALLER].key_id,
    )
    _check_quota(api, record)
    revision = await api.store.create_endpoint(record)
    created = _document(api, record)
    api.events.announce("created", created)
    location = f"/v1/endpoints/{created.id}"
    return answer(created, status=201, location=location, etag=etag(revision))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints."""
    page = parse_page(request.query)
    wanted = _filter(api, request.query)
    records = (row.value for row in api.store.endpoints.rows.values())
    shown, cursor = page.of((r for r in records if wanted(r)), _place)
    documents = tuple(_document(api, record) for record in shown)
    return answer(EndpointList(endpoints=documents, next_cursor=cursor))


def _place(record: EndpointRecord) -> tuple[str, ...]:
    return record.created_at.isoformat(timespec="microseconds"), record.endpoint_id


def _filter(api: Api, query: Mapping[str, str]) -> Callable[[EndpointRecord], bool]:
    text = query.get("q", "").lower()
    try:
        state = EndpointState(query["state"]) if "state" in query else None
    except ValueError:
        known = ", ".join(EndpointState)
        raise RefusedError(400, "malformed_filter", f"state is one of {known}") from None

    def wanted(record: EndpointRecord) -> bool:
        if text not in record.spec.name.lower() and text not in record.spec.app_name:
            return False
        status = api.store.endpoint_status.rows.get(record.endpoint_id)
        return state in (None, shown_state(record, status.value if status else None))

    return wanted


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}."""
    row = api.store.find_row(request.match_info["endpoint"])
    return answer(_document(api, row.value), etag=etag(row.revision))


async def show_decisions(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/decisions."""
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    row = api.store.scale_history.rows.get(endpoint_id)
    return answer(DecisionList(decisions=row.value.decisions if row else ()))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/endpoints/{endpoint}."""
    name = _own(api, request)  # an unknown endpoint is told before a wrong document
    patch = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    now = api.clock.utc()

    change = await api.store.change_endpoint(
        name,
        lambda record: _patched(api, record, patch, now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "updated")


def _patched(api: Api, record: EndpointRecord, patch: object, now: datetime) -> EndpointRecord:
    changed = plan_change(
        record,
        patch,
        seal=api.sealer.seal,
        now=now,
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
    )
    _check_quota(api, changed)
    return changed


async def show_revisions(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/revisions."""
    record = api.store.find(request.match_info["endpoint"])
    filed = api.store.revisions_of(record.endpoint_id)
    return answer(RevisionList(revisions=revision_documents(record, filed)))


async def roll_back(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/rollback."""
    name = _own(api, request)
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

    change = await api.store.change_endpoint(name, plan, if_match=_if_match(request))
    return _changed(api, change, "rolled_back")


async def share_traffic(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/canary."""
    name = _own(api, request)
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    try:
        wanted = CanaryRequest.model_validate(document)
    except ValidationError:
        told = 'send {"percent": <1 to 99>}, and to begin a canary "change": <a merge patch>'
        raise InvalidDocumentError([Problem("", told)]) from None
    now = api.clock.utc()

    def change(record: EndpointRecord, patch: object) -> EndpointRecord:
        return _patched(api, record, patch, now)

    outcome = await api.store.change_endpoint(
        name,
        lambda record: plan_canary(record, wanted, change, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, outcome, "updated")


async def promote(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/promote."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_promotion(record, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "updated")


async def abort(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/abort."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_abort(record, why=None, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "rolled_back")


def announce_retreat(api: Api, record: EndpointRecord) -> None:
    """Tell of an endpoint that went back by itself."""
    api.events.announce("rolled_back", _document(api, record))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/endpoints/{endpoint}."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_deletion(record, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "deleted", status=202)


async def pause(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/pause."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_pause(record, True, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "paused")


async def resume(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/resume."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_pause(record, False, now=now),
        if_match=_if_match(request),
    )
    return _changed(api, change, "resumed")


def _own(api: Api, request: web.Request) -> str:
    """The name in the path, of an endpoint that the caller may change."""
    name = request.match_info["endpoint"]
    check_owner(request[CALLER], api.store.find(name))
    return name


def _check_quota(api: Api, record: EndpointRecord) -> None:
    owner = api.store.api_keys.rows.get(record.owner) if record.owner is not None else None
    check_quota(record, owner.value if owner is not None else None)


def _document(api: Api, record: EndpointRecord) -> EndpointDocument:
    status = api.store.endpoint_status.rows.get(record.endpoint_id)
    return endpoint_document(
        record,
        status.value if status else None,
        api.loads.of_endpoint(record.endpoint_id, api.clock.monotonic()),
        router_url=api.settings.router_url,
    )


def _if_match(request: web.Request) -> IfMatch:
    return parse_if_match(request.headers.get("If-Match"))


def _changed(api: Api, change: Change, verb: Verb, *, status: int = 200) -> web.Response:
    """The answer to a change, which is told as an event if there was something to change."""
    document = _document(api, change.record)
    if change.changed:
        api.events.announce(verb, document)
    return answer(document, status=status, etag=etag(change.revision))


ROUTES: Final = (
    Route(
        "POST",
        "/v1/endpoints",
        create,
        "deploy",
        "Create an endpoint.",
        EndpointDocument,
        status=201,
        body=Body((JSON,), EndpointSpec, made_when_missing=("name", "app_name")),
    ),
    Route(
        "GET",
        "/v1/endpoints",
        show_all,
        "read",
        "List the endpoints.",
        EndpointList,
        query=(
            *PAGE,
            Query("state", "only endpoints in this state", {"enum": list(EndpointState)}),
            Query("q", "only those whose name or app_name holds this", {"type": "string"}),
        ),
    ),
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
        "deploy",
        "Run again what an earlier revision ran.",
        EndpointDocument,
        body=Body((JSON,), RollbackRequest),
        conditional=True,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/canary",
        share_traffic,
        "deploy",
        "Begin a canary, or give it another share.",
        EndpointDocument,
        body=Body((JSON,), CanaryRequest),
        conditional=True,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/promote",
        promote,
        "deploy",
        "Give the canary all traffic.",
        EndpointDocument,
        conditional=True,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/abort",
        abort,
        "deploy",
        "End the canary: what ran before gets all traffic.",
        EndpointDocument,
        conditional=True,
    ),
    Route(
        "PATCH",
        "/v1/endpoints/{endpoint}",
        update,
        "deploy",
        "Change an endpoint by a JSON merge patch.",
        EndpointDocument,
        body=Body((MERGE_PATCH, JSON), EndpointSpec),
        conditional=True,
    ),
    Route(
        "DELETE",
        "/v1/endpoints/{endpoint}",
        delete,
        "deploy",
        "Delete an endpoint once its workers are stopped.",
        EndpointDocument,
        status=202,
        conditional=True,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/pause",
        pause,
        "deploy",
        "Keep an endpoint at 0 workers.",
        EndpointDocument,
        conditional=True,
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/resume",
        resume,
        "deploy",
        "Let a paused endpoint run again.",
        EndpointDocument,
        conditional=True,
    ),
)
