"""Workers of an endpoint."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.routes.route import Route, answer
from penstock_api.views import worker_document
from penstock_client.documents import WorkerDocument, WorkerList
from penstock_common.messages import WorkerAssignment


async def show_workers(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/workers."""
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    loads = api.loads.of_workers(endpoint_id, api.clock.monotonic())

    def document(key: str, assignment: WorkerAssignment) -> WorkerDocument:
        status = api.store.worker_status.rows.get(key)
        router_id, load = loads.get(assignment.worker_id, (None, None))
        return worker_document(
            assignment,
            status.value if status else None,
            # A router that no longer drives the worker may still report it for a moment.
            load if router_id == assignment.driver else None,
        )

    workers = tuple(
        document(key, assignment)
        for key, assignment in api.store.assignments().items()
        if assignment.endpoint_id == endpoint_id
    )
    return answer(WorkerList(workers=workers))


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
