"""Nodes: what they are, who runs there, and what operators want of them."""

from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.node_orders import plan_order
from penstock_api.node_views import node_document
from penstock_api.routes.route import Body, Route, answer
from penstock_api.routes.workers import shown_workers
from penstock_api.store import NodeNotFoundError
from penstock_client.documents import (
    CordonRequest,
    DrainRequest,
    NodeDetail,
    NodeDocument,
    NodeList,
)
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.events.catalogue import (
    NODE_CORDONED,
    NODE_DRAINING,
    NODE_UNCORDONED,
    EventType,
)
from penstock_common.messages import NodeOrdered, WorkerAssignment

JSON: Final = "application/json"

R = TypeVar("R", bound=CordonRequest)


async def show_nodes(api: Api, request: web.Request) -> web.Response:
    """GET /v1/nodes."""
    return answer(NodeList(nodes=shown_nodes(api)))


def shown_nodes(api: Api) -> tuple[NodeDocument, ...]:
    """Every node as it is now, by id."""
    placed = api.store.assignments_by_node()
    return tuple(
        _document(api, node_id, placed.get(node_id, ())) for node_id in api.store.node_ids()
    )


async def show_node(api: Api, request: web.Request) -> web.Response:
    """GET /v1/nodes/{node}."""
    return answer(_detail(api, request.match_info["node"]))


async def cordon(api: Api, request: web.Request) -> web.Response:
    """POST /v1/nodes/{node}/cordon."""
    return await _order(api, request, await _read(api, request, CordonRequest), NODE_CORDONED)


async def drain(api: Api, request: web.Request) -> web.Response:
    """POST /v1/nodes/{node}/drain."""
    return await _order(api, request, await _read(api, request, DrainRequest), NODE_DRAINING)


async def uncordon(api: Api, request: web.Request) -> web.Response:
    """POST /v1/nodes/{node}/uncordon."""
    return await _order(api, request, None, NODE_UNCORDONED)


async def _order(
    api: Api, request: web.Request, wanted: CordonRequest | None, what: EventType[NodeOrdered]
) -> web.Response:
    node_id, now = request.match_info["node"], api.clock.utc()
    shown = _detail(api, node_id)
    changed = await api.store.order_node(
        node_id, lambda old: plan_order(node_id, old, wanted, now=now) if wanted else None
    )
    if changed:
        # One of which only the order was known is gone with it: then as it was, without an order.
        known = node_id in api.store.node_ids()
        shown = _detail(api, node_id) if known else shown.model_copy(update={"order": None})
        order = api.store.node_order(node_id)
        api.events.announce(what.of(NodeOrdered(node_id=node_id, order=order)))
    return answer(shown)


async def _read(api: Api, request: web.Request, model: type[R]) -> R:
    """The request's document; without a body, one that says nothing."""
    if not request.body_exists:
        return model()
    document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocumentError(
            [
                Problem("".join(f"/{part}" for part in e["loc"]), e["msg"].lower())
                for e in error.errors()
            ]
        ) from None


def _document(api: Api, node_id: str, placed: list[WorkerAssignment] | tuple[()]) -> NodeDocument:
    row = api.store.nodes.rows.get(node_id)
    return node_document(node_id, row.value if row else None, api.store.node_order(node_id), placed)


def _detail(api: Api, node_id: str) -> NodeDetail:
    if node_id not in api.store.node_ids():
        raise NodeNotFoundError(f"there is no node '{node_id}'")
    placed = api.store.assignments_by_node().get(node_id, [])
    document = _document(api, node_id, placed)
    return NodeDetail(**dict(document), worker_details=shown_workers(api, placed))


ROUTES: Final = (
    Route("GET", "/v1/nodes", show_nodes, "read", "List the nodes and their GPUs.", NodeList),
    Route("GET", "/v1/nodes/{node}", show_node, "read", "Show a node and its workers.", NodeDetail),
    Route(
        "POST",
        "/v1/nodes/{node}/cordon",
        cordon,
        "admin",
        "Let a node take no new worker.",
        NodeDetail,
        body=Body((JSON,), CordonRequest, required=False),
    ),
    Route(
        "POST",
        "/v1/nodes/{node}/uncordon",
        uncordon,
        "admin",
        "Let a node take workers again.",
        NodeDetail,
    ),
    Route(
        "POST",
        "/v1/nodes/{node}/drain",
        drain,
        "admin",
        "Move a node's workers elsewhere.",
        NodeDetail,
        body=Body((JSON,), DrainRequest, required=False),
    ),
)
