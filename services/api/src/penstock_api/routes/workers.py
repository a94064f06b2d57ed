"""Workers: list, show, stop."""

from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web

from penstock_api.auth import check_owner, check_right
from penstock_api.context import Api
from penstock_api.filters import one_of
from penstock_api.paging import Page, oldest, parse_page
from penstock_api.routes.requests import JSON, read_request
from penstock_api.routes.route import CALLER, PAGE, Body, Query, Route, answer
from penstock_api.views import worker_document
from penstock_api.workers import find_worker, order_stop
from penstock_client.documents import StopRequest, WorkerDocument, WorkerList
from penstock_common.events.catalogue import WORKER_STOP_ORDERED
from penstock_common.messages import WorkerAssignment, WorkerLoad
from penstock_common.states import WorkerState
from penstock_common.subjects import worker_key

_STATE: Final = Query("state", "only workers in this state", {"enum": list(WorkerState)})


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/workers."""
    return _list(api, request.query, endpoint=request.query.get("endpoint"))


async def show_workers(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/workers."""
    return _list(api, request.query, endpoint=request.match_info["endpoint"])


def _list(api: Api, query: Mapping[str, str], *, endpoint: str | None) -> web.Response:
    return answer(
        list_workers(
            api,
            parse_page(query),
            endpoint=endpoint,
            node_id=query.get("node"),
            state=one_of(query, "state", WorkerState),
        )
    )


def list_workers(
    api: Api,
    page: Page,
    *,
    endpoint: str | None = None,
    node_id: str | None = None,
    state: str | None = None,
) -> WorkerList:
    """A page of the workers, the oldest first.

    Args:
        api: its parts.
        page: which part of the list.
        endpoint: only those of the endpoint with this name.
        node_id: only those on this node.
        state: only those in this state.

    Raises:
        PenstockError: there is no such endpoint.
    """
    endpoint_id = api.store.find(endpoint).endpoint_id if endpoint is not None else None

    def wanted(assignment: WorkerAssignment) -> bool:
        return (
            endpoint_id in (None, assignment.endpoint_id)
            and node_id in (None, assignment.node_id)
            and state in (None, _state(api, assignment))
        )

    listed, cursor = page.of(filter(wanted, api.store.assignments().values()), _place)
    return WorkerList(workers=shown_workers(api, listed), next_cursor=cursor)


def _place(assignment: WorkerAssignment) -> tuple[str, ...]:
    """Of a worker in lists: the oldest first."""
    return oldest(assignment.decided_at, assignment.worker_id)


def _state(api: Api, assignment: WorkerAssignment) -> WorkerState:
    status = api.store.worker_status.rows.get(worker_key(assignment.node_id, assignment.worker_id))
    return status.value.state if status else WorkerState.PENDING


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/workers/{worker}."""
    return answer(_shown(api, find_worker(api.store, request.match_info["worker"])))


async def stop(api: Api, request: web.Request) -> web.Response:
    """POST /v1/workers/{worker}/stop."""
    assignment = find_worker(api.store, request.match_info["worker"])
    owner = api.store.endpoints.rows.get(assignment.endpoint_id)
    if owner is not None:
        check_owner(request[CALLER], owner.value)
    else:  # of an endpoint that is gone, so nobody's
        check_right(request[CALLER], "admin")
    wanted = await read_request(api, request, StopRequest)
    order = await order_stop(api.store, assignment, wanted, now=api.clock.utc())
    if order is not None:
        api.events.announce(WORKER_STOP_ORDERED.of(order))
    return answer(_shown(api, assignment), status=202)


def _shown(api: Api, assignment: WorkerAssignment) -> WorkerDocument:
    (document,) = shown_workers(api, (assignment,))
    return document


def shown_workers(api: Api, assignments: Iterable[WorkerAssignment]) -> tuple[WorkerDocument, ...]:
    """Workers with what their node agents and their drivers say of them now."""
    now = api.clock.monotonic()
    loads: dict[str, dict[str, tuple[str, WorkerLoad]]] = {}

    def document(assignment: WorkerAssignment) -> WorkerDocument:
        endpoint_id = assignment.endpoint_id
        if endpoint_id not in loads:
            loads[endpoint_id] = api.loads.of_workers(endpoint_id, now)
        key = worker_key(assignment.node_id, assignment.worker_id)
        status = api.store.worker_status.rows.get(key)
        order = api.store.worker_orders.rows.get(key)
        router_id, load = loads[endpoint_id].get(assignment.worker_id, (None, None))
        return worker_document(
            assignment,
            status.value if status else None,
            # A router that no longer drives the worker may still report it for a moment.
            load if router_id == assignment.driver else None,
            order.value if order else None,
        )

    return tuple(map(document, assignments))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/workers",
        show_all,
        "read",
        "List the workers of all endpoints.",
        WorkerList,
        query=(
            *PAGE,
            Query("endpoint", "only those of this endpoint (id or app_name)", {"type": "string"}),
            Query("node", "only those on this node", {"type": "string"}),
            _STATE,
        ),
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/workers",
        show_workers,
        "read",
        "List the workers of an endpoint.",
        WorkerList,
        query=(*PAGE, Query("node", "only those on this node", {"type": "string"}), _STATE),
    ),
    Route("GET", "/v1/workers/{worker}", show, "read", "Show a worker.", WorkerDocument),
    Route(
        "POST",
        "/v1/workers/{worker}/stop",
        stop,
        "deploy",
        "Drain and stop a worker; another one starts if its endpoint needs one.",
        WorkerDocument,
        status=202,
        body=Body((JSON,), StopRequest, required=False),
    ),
)
