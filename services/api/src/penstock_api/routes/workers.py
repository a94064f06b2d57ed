"""Workers of an endpoint."""

from collections.abc import Iterable
from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.routes.route import Route, answer
from penstock_api.views import worker_document
from penstock_client.documents import WorkerDocument, WorkerList
from penstock_common.messages import WorkerAssignment, WorkerLoad
from penstock_common.subjects import worker_key


async def show_workers(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/workers."""
    return answer(list_workers(api, request.match_info["endpoint"]))


def list_workers(api: Api, name: str) -> WorkerList:
    """The workers of the endpoint with this name.

    Raises:
        PenstockError: there is none.
    """
    endpoint_id = api.store.find(name).endpoint_id
    placed = api.store.assignments().values()
    return WorkerList(
        workers=shown_workers(api, (a for a in placed if a.endpoint_id == endpoint_id))
    )


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
        router_id, load = loads[endpoint_id].get(assignment.worker_id, (None, None))
        return worker_document(
            assignment,
            status.value if status else None,
            # A router that no longer drives the worker may still report it for a moment.
            load if router_id == assignment.driver else None,
        )

    return tuple(map(document, assignments))


ROUTES: Final = (
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/workers",
        show_workers,
        "read",
        "List the workers of an endpoint.",
        WorkerList,
    ),
)
