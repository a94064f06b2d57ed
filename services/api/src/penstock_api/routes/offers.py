"""What there is to ask for: GPU products, and the limits of documents and callers."""

from typing import Final

from aiohttp import web

from penstock_api.api_keys import key_document
from penstock_api.bodies import MAX_BODY_BYTES, MAX_DEPTH
from penstock_api.context import Api
from penstock_api.limits import document_limits
from penstock_api.paging import MAX_LIMIT
from penstock_api.products import products_of
from penstock_api.routes.nodes import shown_nodes
from penstock_api.routes.route import CALLER, Route, answer
from penstock_api.store import MAX_RECORD_BYTES
from penstock_client.documents import (
    LimitsDocument,
    ProductList,
    QuotaDocument,
    RequestLimits,
)
from penstock_common.messages import ApiKeyRecord
from penstock_common.specs import RESERVED_APP_NAMES


async def show_products(api: Api, request: web.Request) -> web.Response:
    """GET /v1/products."""
    return answer(ProductList(products=products_of(shown_nodes(api), api.settings.gpu_prices)))


async def show_limits(api: Api, request: web.Request) -> web.Response:
    """GET /v1/limits."""
    settings = api.settings
    return answer(
        LimitsDocument(
            fields=document_limits(),
            max_document_bytes=MAX_RECORD_BYTES,
            reserved_app_names=tuple(sorted(RESERVED_APP_NAMES)),
            quota=_quota(api, request[CALLER]),
            requests=RequestLimits(
                rate_per_s=settings.rate_limit_per_s,
                burst=settings.rate_limit_burst,
                max_body_bytes=MAX_BODY_BYTES,
                body_timeout_s=settings.body_timeout_s,
                max_depth=MAX_DEPTH,
                max_page=MAX_LIMIT,
            ),
        )
    )


def _quota(api: Api, caller: ApiKeyRecord) -> QuotaDocument:
    key = key_document(caller, api.store.held(), api.store.last_use(caller.key_id))
    owners = (row.value.owner for row in api.store.endpoints.rows.values())
    return QuotaDocument(
        api_key=key.id,
        scope=key.scope,
        max_workers=key.max_workers,
        max_gpus=key.max_gpus,
        workers=key.workers,
        gpus=key.gpus,
        endpoints=sum(owner == key.id for owner in owners),
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/products",
        show_products,
        "read",
        "List the GPU products of the nodes, what is free and what it costs.",
        ProductList,
    ),
    Route(
        "GET",
        "/v1/limits",
        show_limits,
        "read",
        "Show what a document may contain and the caller may do.",
        LimitsDocument,
    ),
)
