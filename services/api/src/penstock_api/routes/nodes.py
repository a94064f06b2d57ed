"""Nodes: what they are, who runs there, and what operators want of them."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.filters import one_of
from penstock_api.node_orders import plan_order
from penstock_api.node_views import node_document
from penstock_api.paging import parse_page
from penstock_api.routes.requests import JSON, read_request
from penstock_api.routes.route import PAGE, Body, Query, Route, answer
from penstock_api.routes.workers import shown_workers
from penstock_api.store import NodeNotFoundError
from penstock_client.documents import (
    CordonRequest,
    DrainRequest,
    NodeDetail,
    NodeDocument,
    NodeList,
)
from penstock_common.events.catalogue import (
    NODE_CORDONED,
    NODE_DRAINING,
    NODE_UNCORDONED,
    EventType,
)
from penstock_common.messages import NodeOrdered, WorkerAssignment
from penstock_common.states import NodeState


async def show_nodes(api: Api, request: web.Request) -> web.Response:
    """GET /v1/nodes."""
    page, state = parse_page(request.query), one_of(request.query, "state", NodeState)
    nodes = (node for node in shown_nodes(api) if state in (None, node.state))
    listed, cursor = page.of(nodes, lambda node: (node.id,))
    return answer(NodeList(nodes=tuple(listed), next_cursor=cursor))


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
    return await _order(
        api, request, await read_request(api, request, CordonRequest), NODE_CORDONED
    )


async def drain(api: Api, request: web.Request) -> web.Response:
    """POST /v1/nodes/{node}/drain."""
    return await _order(api, request, await read_request(api, request, DrainRequest), NODE_DRAINING)


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
    Route(
        "GET",
        "/v1/nodes",
        show_nodes,
        "read",
        "List the nodes and their GPUs.",
        NodeList,
        query=(*PAGE, Query("state", "only nodes in this state", {"enum": list(NodeState)})),
    ),
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
