"""Endpoints: create, list, show, change, go back, delete, pause, resume."""

from typing import Final

from aiohttp import web
from pydantic import ValidationError

from penstock_api.bodies import read_json
from penstock_api.canaries import plan_abort, plan_canary, plan_promotion
from penstock_api.context import Api
from penstock_api.endpoint_actions import (
    Outcome,
    create_endpoint,
    delete_endpoint,
    list_endpoints,
    own,
    patch_endpoint,
    patched_record,
    pause_endpoint,
    show_endpoint,
    told,
)
from penstock_api.filters import one_of
from penstock_api.paging import parse_page
from penstock_api.preconditions import IfMatch, etag, parse_if_match
from penstock_api.revisions import (
    RevisionNotFoundError,
    plan_rollback,
    previous_revision,
    revision_documents,
)
from penstock_api.routes.route import CALLER, PAGE, Body, Query, Route, answer
from penstock_api.volumes import missing_volumes
from penstock_client.documents import (
    CanaryRequest,
    DecisionList,
    EndpointDocument,
    EndpointList,
    RevisionList,
    RollbackRequest,
)
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.events.catalogue import ENDPOINT_ROLLED_BACK, ENDPOINT_UPDATED
from penstock_common.messages import EndpointNews, EndpointRecord
from penstock_common.specs import EndpointSpec
from penstock_common.states import EndpointState

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints."""
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    created = await create_endpoint(api, request[CALLER], document)
    location = f"/v1/endpoints/{created.record.endpoint_id}"
    return answer(created.document, status=201, location=location, etag=etag(created.revision))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints."""
    page = parse_page(request.query)
    state = one_of(request.query, "state", EndpointState)
    return answer(list_endpoints(api, page, text=request.query.get("q", ""), state=state))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}."""
    return _answer(show_endpoint(api, request.match_info["endpoint"]))


async def show_decisions(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/decisions."""
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    row = api.store.scale_history.rows.get(endpoint_id)
    return answer(DecisionList(decisions=row.value.decisions if row else ()))


async def update(api: Api, request: web.Request) -> web.Response:
    """PATCH /v1/endpoints/{endpoint}."""
    name = _own(api, request)  # an unknown endpoint is told before a wrong document
    patch = await read_json(request, (MERGE_PATCH, JSON), api.settings.body_timeout_s)
    return _answer(await patch_endpoint(api, name, lambda _: patch, if_match=_if_match(request)))


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
            why = f"revision {number} uses the volume {gone[0]}, which is gone"
            raise InvalidDocumentError([Problem("/revision", why)])
        return plan_rollback(record, filed[number], why=None, now=now)

    change = await api.store.change_endpoint(name, plan, if_match=_if_match(request))
    return _answer(told(api, change, ENDPOINT_ROLLED_BACK))


async def share_traffic(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/canary."""
    name = _own(api, request)
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    try:
        wanted = CanaryRequest.model_validate(document)
    except ValidationError:
        how = 'send {"percent": <1 to 99>}, and to begin a canary "change": <a merge patch>'
        raise InvalidDocumentError([Problem("", how)]) from None
    now = api.clock.utc()

    def change(record: EndpointRecord, patch: object) -> EndpointRecord:
        return patched_record(api, record, patch, now=now)

    outcome = await api.store.change_endpoint(
        name,
        lambda record: plan_canary(record, wanted, change, now=now),
        if_match=_if_match(request),
    )
    return _answer(told(api, outcome, ENDPOINT_UPDATED))


async def promote(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/promote."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_promotion(record, now=now),
        if_match=_if_match(request),
    )
    return _answer(told(api, change, ENDPOINT_UPDATED))


async def abort(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/abort."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        _own(api, request),
        lambda record: plan_abort(record, why=None, now=now),
        if_match=_if_match(request),
    )
    return _answer(told(api, change, ENDPOINT_ROLLED_BACK))


def announce_retreat(api: Api, record: EndpointRecord) -> None:
    """Tell of an endpoint that went back by itself."""
    api.events.announce(ENDPOINT_ROLLED_BACK.of(EndpointNews.of(record)))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/endpoints/{endpoint}."""
    deleted = await delete_endpoint(
        api, request[CALLER], request.match_info["endpoint"], if_match=_if_match(request)
    )
    return _answer(deleted, status=202)


async def pause(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/pause."""
    return _answer(await _pause(api, request, True))


async def resume(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/resume."""
    return _answer(await _pause(api, request, False))


async def _pause(api: Api, request: web.Request, paused: bool) -> Outcome:
    return await pause_endpoint(
        api,
        request[CALLER],
        request.match_info["endpoint"],
        paused,
        if_match=_if_match(request),
    )


def _own(api: Api, request: web.Request) -> str:
    """The name in the path, of an endpoint that the caller may change."""
    return own(api, request[CALLER], request.match_info["endpoint"])


def _if_match(request: web.Request) -> IfMatch:
    return parse_if_match(request.headers.get("If-Match"))


def _answer(outcome: Outcome, *, status: int = 200) -> web.Response:
    return answer(outcome.document, status=status, etag=etag(outcome.revision))


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
