"""Calls about endpoints: create, get, list, update, delete, pause, resume; list their workers."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from penstock_api.answers import Answer
from penstock_api.context import Api
from penstock_api.dialects import under
from penstock_api.endpoint_actions import (
    Outcome,
    create_endpoint,
    delete_endpoint,
    list_endpoints,
    own,
    patch_endpoint,
    pause_endpoint,
    show_endpoint,
)
from penstock_api.preconditions import etag
from penstock_api.routes.workers import list_workers
from penstock_api.rpc.call import Call, Operation
from penstock_api.rpc.requests import (
    EndpointListRequest,
    EndpointRequest,
    EndpointUpdateRequest,
    WorkerListRequest,
)
from penstock_client.documents import EndpointDocument, EndpointList, WorkerList
from penstock_common.specs import EndpointSpec

_HEADERS: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class _Integration:
    """Who calls over NATS: the server has let it in, for every endpoint; none is its own."""

    key_id: str | None = None
    scope: str = "admin"


CALLER: Final = _Integration()


async def create(api: Api, call: Call) -> Answer:
    """endpoint.create."""
    return _outcome(await create_endpoint(api, CALLER, call.json()), status=201)


async def get(api: Api, call: Call) -> Answer:
    """endpoint.get."""
    return _outcome(show_endpoint(api, call.read(EndpointRequest).endpoint))


async def show_all(api: Api, call: Call) -> Answer:
    """endpoint.list."""
    wanted = call.read(EndpointListRequest)
    return _answer(list_endpoints(api, wanted.page, text=wanted.q, state=wanted.state))


async def update(api: Api, call: Call) -> Answer:
    """endpoint.update."""
    wanted = call.read(EndpointUpdateRequest)
    name = own(api, CALLER, wanted.endpoint)
    with under("/change"):
        return _outcome(
            await patch_endpoint(api, name, lambda _: wanted.change, if_match=call.if_match)
        )


async def delete(api: Api, call: Call) -> Answer:
    """endpoint.delete."""
    name = call.read(EndpointRequest).endpoint
    return _outcome(await delete_endpoint(api, CALLER, name, if_match=call.if_match), status=202)


async def pause(api: Api, call: Call) -> Answer:
    """endpoint.pause."""
    return await _pause(api, call, True)


async def resume(api: Api, call: Call) -> Answer:
    """endpoint.resume."""
    return await _pause(api, call, False)


async def show_workers(api: Api, call: Call) -> Answer:
    """worker.list."""
    wanted = call.read(WorkerListRequest)
    return _answer(
        list_workers(
            api,
            wanted.page,
            endpoint=wanted.endpoint,
            node_id=wanted.node,
            state=wanted.state,
        )
    )


async def _pause(api: Api, call: Call, paused: bool) -> Answer:
    name = call.read(EndpointRequest).endpoint
    return _outcome(await pause_endpoint(api, CALLER, name, paused, if_match=call.if_match))


def _outcome(outcome: Outcome, *, status: int = 200) -> Answer:
    return _answer(outcome.document, status=status, etag=etag(outcome.revision))


def _answer(document: BaseModel, *, status: int = 200, etag: str | None = None) -> Answer:
    headers = _HEADERS if etag is None else {**_HEADERS, "ETag": etag}
    return Answer(status, headers, document.model_dump_json().encode())


OPERATIONS: Final = (
    Operation(
        "endpoint.create",
        create,
        "Create an endpoint.",
        EndpointSpec,
        EndpointDocument,
        made_when_missing=("name", "app_name"),
        changes=True,
        example={"app_name": "echo", "image": {"image": "acme/echo:1.0"}, "gpu": {"count": 0}},
    ),
    Operation(
        "endpoint.get",
        get,
        "Show an endpoint.",
        EndpointRequest,
        EndpointDocument,
        example={"endpoint": "echo"},
    ),
    Operation(
        "endpoint.list",
        show_all,
        "List the endpoints.",
        EndpointListRequest,
        EndpointList,
        has_etag=False,
        example={"limit": 100, "state": "serving"},
    ),
    Operation(
        "endpoint.update",
        update,
        "Change an endpoint by a JSON merge patch.",
        EndpointUpdateRequest,
        EndpointDocument,
        changes=True,
        conditional=True,
        example={"endpoint": "echo", "change": {"workers": {"max": 4}}},
    ),
    Operation(
        "endpoint.delete",
        delete,
        "Delete an endpoint once its workers are stopped.",
        EndpointRequest,
        EndpointDocument,
        changes=True,
        conditional=True,
        example={"endpoint": "echo"},
    ),
    Operation(
        "endpoint.pause",
        pause,
        "Keep an endpoint at 0 workers.",
        EndpointRequest,
        EndpointDocument,
        changes=True,
        conditional=True,
        example={"endpoint": "echo"},
    ),
    Operation(
        "endpoint.resume",
        resume,
        "Let a paused endpoint run again.",
        EndpointRequest,
        EndpointDocument,
        changes=True,
        conditional=True,
        example={"endpoint": "echo"},
    ),
    Operation(
        "worker.list",
        show_workers,
        "List the workers, or those of an endpoint.",
        WorkerListRequest,
        WorkerList,
        has_etag=False,
        example={"endpoint": "echo"},
    ),
)
