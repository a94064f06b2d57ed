"""Routes of Novita's management API v1 about limits, products and clusters."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.novita.catalog import (
    NovitaClusters,
    NovitaLimits,
    NovitaProducts,
    ProductQuery,
    clusters,
    limits,
    products,
)
from penstock_api.novita.queries import number
from penstock_api.novita.v1_endpoints import BASE
from penstock_api.routes.nodes import shown_nodes
from penstock_api.routes.route import Query, Route, answer

_COUNT: Final = {"type": "integer", "minimum": 0}


async def show_limits(api: Api, request: web.Request) -> web.Response:
    """GET endpoint/limit."""
    return answer(limits(shown_nodes(api)))


async def show_products(api: Api, request: web.Request) -> web.Response:
    """GET products."""
    query = ProductQuery(
        cluster=request.query.get("clusterId", ""),
        gpus=number(request.query, "gpuNum") or 0,
        name=request.query.get("productName", ""),
        min_cpus=number(request.query, "minCpuPerGpu") or 0,
        min_memory_gb=number(request.query, "minMemoryPerGpu") or 0,
    )
    return answer(products(shown_nodes(api), query))


async def show_clusters(api: Api, request: web.Request) -> web.Response:
    """GET clusters."""
    return answer(
        clusters(shown_nodes(api), network_storage=api.settings.novita_storage_path is not None)
    )


ROUTES: Final = (
    Route(
        "GET",
        f"{BASE}/endpoint/limit",
        show_limits,
        "read",
        "Show the ranges of an endpoint's parameters.",
        NovitaLimits,
    ),
    Route(
        "GET",
        f"{BASE}/products",
        show_products,
        "read",
        "List the kinds of GPU that the nodes have.",
        NovitaProducts,
        query=(
            Query("clusterId", "only what this cluster has", {"type": "string"}),
            Query("gpuNum", "only what a node has so many of", _COUNT),
            Query("productName", "only ids that hold this", {"type": "string"}),
            Query("minCpuPerGpu", "least CPU cores per GPU", _COUNT),
            Query("minMemoryPerGpu", "least GB of memory per GPU", _COUNT),
        ),
    ),
    Route(
        "GET",
        f"{BASE}/clusters",
        show_clusters,
        "read",
        "List the clusters: nodes by their label `region`.",
        NovitaClusters,
    ),
)
