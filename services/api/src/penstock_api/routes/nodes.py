"""Nodes whose agents report."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.routes.route import Route, answer
from penstock_api.views import node_document
from penstock_client.documents import NodeList


async def show_nodes(api: Api, request: web.Request) -> web.Response:
    """GET /v1/nodes."""
    placed = api.store.assignments_by_node()
    nodes = sorted(api.store.nodes.rows.items())
    return answer(
        NodeList(nodes=tuple(node_document(row.value, placed.get(key, ())) for key, row in nodes))
    )


ROUTES: Final = (
    Route("GET", "/v1/nodes", show_nodes, "read", "List the nodes and their GPUs.", NodeList),
)
