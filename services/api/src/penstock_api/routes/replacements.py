"""A whole document for an endpoint: what it would change, and the change itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aiohttp import web

from penstock_api.auth import check_owner
from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.endpoint_actions import (
    check_owners_quota,
    create_endpoint,
    new_record,
    told,
)
from penstock_api.endpoint_changes import ENDPOINT_ID, AppNameTakenError
from penstock_api.preconditions import (
    PreconditionFailedError,
    etag,
    parse_if_match,
    parse_if_none_match,
)
from penstock_api.replacements import plan_document, plan_replacement, whole_document
from penstock_api.routes.route import CALLER, Body, Route, answer
from penstock_api.store import EndpointNotFoundError
from penstock_client.documents import EndpointDocument, PlanDocument
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.events.catalogue import ENDPOINT_UPDATED
from penstock_common.messages import EndpointRecord
from penstock_common.nats.kv import Row
from penstock_common.specs import EndpointSpec

JSON: Final = "application/json"
_BODY: Final = Body((JSON,), EndpointSpec, made_when_missing=("name", "app_name"))


async def plan(api: Api, request: web.Request) -> web.Response:
    """POST /v1/endpoints/{endpoint}/plan."""
    name = request.match_info["endpoint"]
    row = _own_row(api, request, name)
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    before = row.value if row is not None else None
    if before is None:
        whole = _new_document(name, document)
        after = new_record(api, request[CALLER], whole)
    else:
        after = _replaced(api, before, document, api.clock.utc())
    api.store.check_writable(before, after)
    planned = plan_document(before, after)
    return answer(planned) if row is None else answer(planned, etag=etag(row.revision))


async def replace(api: Api, request: web.Request) -> web.Response:
    """PUT /v1/endpoints/{endpoint}."""
    name = request.match_info["endpoint"]
    if_match = parse_if_match(request.headers.get("If-Match"))
    only_new = parse_if_none_match(request.headers.get("If-None-Match"))
    row = _own_row(api, request, name)
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    if row is None:
        if "If-Match" in request.headers:
            raise PreconditionFailedError("there is no such endpoint any more: read it again")
        try:
            return await _create(api, request, name, document)
        except AppNameTakenError:
            # Somebody has made it in between.
            row = _own_row(api, request, name)
            if row is None:
                raise
    if only_new:
        raise PreconditionFailedError("there is such an endpoint already: read it")
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        row.value.endpoint_id,
        lambda record: _replaced(api, record, document, now),
        if_match=if_match,
    )
    changed = told(api, change, ENDPOINT_UPDATED)
    return answer(changed.document, etag=etag(changed.revision))


async def _create(api: Api, request: web.Request, name: str, document: object) -> web.Response:
    whole = _new_document(name, document)
    created = await create_endpoint(api, request[CALLER], whole)
    location = f"/v1/endpoints/{created.record.endpoint_id}"
    return answer(created.document, status=201, location=location, etag=etag(created.revision))


def _own_row(api: Api, request: web.Request, name: str) -> Row[EndpointRecord] | None:
    """The endpoint with this name, which the caller may change; None = there is none.

    Raises:
        PenstockError: the name is an id, and there is no such endpoint; it is another key's.
    """
    try:
        row = api.store.find_row(name)
    except EndpointNotFoundError:
        if ENDPOINT_ID.fullmatch(name):
            raise
        return None
    check_owner(request[CALLER], row.value)
    return row


def _new_document(name: str, document: object) -> Mapping[str, object]:
    """The whole document of a new endpoint, which is called as the URL says."""
    whole = whole_document(document, name)
    if whole["app_name"] != name:
        told_of = f"the URL names '{name}', which does not exist yet; use one name in both"
        raise InvalidDocumentError([Problem("/app_name", told_of)])
    return whole


def _replaced(api: Api, record: EndpointRecord, document: object, now: datetime) -> EndpointRecord:
    changed = plan_replacement(
        record,
        document,
        seal=api.sealer.seal,
        holds=api.sealer.holds,
        now=now,
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
    )
    check_owners_quota(api, changed)
    return changed


ROUTES: Final = (
    Route(
        "PUT",
        "/v1/endpoints/{endpoint}",
        replace,
        "deploy",
        "Create an endpoint, or give it a whole document.",
        EndpointDocument,
        body=_BODY,
        conditional=True,
        creates=True,
        resource="endpoints",
    ),
    Route(
        "POST",
        "/v1/endpoints/{endpoint}/plan",
        plan,
        "deploy",
        "Show what a PUT of a document would change.",
        PlanDocument,
        body=_BODY,
        only_reads=True,
        resource="endpoints",
    ),
)
